"""Letters that the user's encoding does not have stop no command, neither in what is printed nor in
the names of files and what they hold.
"""

import ast
import os
import subprocess
import sys

import numpy as np
import pytest
from image_files import CENTRES, CUBE, braces, write_envi
from small_fusion import build, pair

from s3rnet_lite import training
from s3rnet_lite.files import formats

pytestmark = pytest.mark.slow  # not part of `make check`

LOCALES = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "cp1252": {"PYTHONIOENCODING": "cp1252"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
PROGRAM = """
import sys
from s3rnet_lite.__main__ import main
from s3rnet_lite.files.command_line import COMMANDS

def call(*arguments: str) -> int:
    sys.argv = ["s3rnet-lite", *arguments]
    try:
        return main()
    except SystemExit as end:
        return end.code

hsi, out, missing = sys.argv[1:]
fuse = ("fuse", "--checkpoint", "model.safetensors", "--hsi", hsi, "--msi", "m.npy")
print([call(name, "--help") for name in COMMANDS])
print([call("scenes"), call("complexity", "--size", "16"), call("check-scene", "copy.npy")])
print([call(*fuse, "--no-guard", "--out", out), call()])
print("error:", call("check-scene", missing))
"""


@pytest.mark.parametrize("name", LOCALES)
def test_any_encoding_will_do(tmp_path, name):
    x_h, x_m = pair(8, 12)
    place = '{GEOGCS["Köln µ"]}'
    nm = braces(np.linspace(0.4, 1, len(x_h)))
    header = write_envi(
        tmp_path, x_h.numpy(), wavelength=nm, wavelength_units="µm", coordinate_system_string=place
    )
    header.rename(tmp_path / "grün.hdr"), (tmp_path / "image").rename(tmp_path / "grün.img")
    np.save(tmp_path / "m.npy", x_m)
    np.save(tmp_path / "copy.npy", np.arange(24_000).reshape(20, 20, 60).astype(np.uint16))
    facts = {"training": {"note": "µ"}}
    training.save_checkpoint(tmp_path / "model.safetensors", build(), "tiny", facts)
    (tmp_path / "program.py").write_text(PROGRAM, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "program.py", "grün.hdr", "größe.hdr", "ß.npy"],
        cwd=tmp_path,
        env=os.environ | LOCALES[name],
        capture_output=True,
        check=True,
    )
    said, text = ended.stdout.splitlines(), ended.stderr.decode("ascii", "replace")
    assert b"[0, 0, 0]" in said and b"[0, 0]" in said, text
    assert said[-1] == b"error: 2" and "npy: no such file" in text
    helps = next(line for line in said if line.startswith(b"[0"))
    assert set(ast.literal_eval(helps.decode())) == {0}
    assert "Traceback" not in text
    fused = formats.open_cube(tmp_path / "größe.hdr")
    np.testing.assert_allclose(fused.wavelengths_nm, np.linspace(400, 1000, len(x_h)))


def test_a_header_keeps_its_letters(tmp_path):
    place = {"coordinate system string": '{GEOGCS["Köln µ"]}'}
    formats.create_cube(tmp_path / "ü.hdr", CUBE.shape, CENTRES, georeference=place)
    assert "Köln µ" in (tmp_path / "ü.hdr").read_text(encoding="utf-8")
    assert formats.open_cube(tmp_path / "ü.hdr").georeference == place
