"""Generated Markdown: tables that are whole, paragraphs that lose no word."""

from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite.course import markdown


def test_a_table_aligns_numbers_to_the_right():
    lines = markdown.table(["a", "b", "c"], [["1", "2", "3"], ["4", "5", "6"]], 2).splitlines()
    assert lines == ["| a | b | c |", "|---|---|--:|", "| 1 | 2 | 3 |", "| 4 | 5 | 6 |"]


@given(st.lists(st.text("abc`*", min_size=1, max_size=20), min_size=1, max_size=60))
def test_a_paragraph_keeps_its_words_in_lines_of_100(words):
    lines = markdown.paragraph(" \n".join(words), "- ").splitlines()
    assert max(map(len, lines)) <= 100
    assert " ".join(lines).split() == ["-", *words]
    assert all(line.startswith("  ") for line in lines[1:])
