"""Figures are backed by arrays: these are checked, pictures are not."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import nbformat
import numpy as np
import torch
from nbclient import NotebookClient

from s3rnet_lite.course import plots


def test_rgb_takes_the_bands_nearest_to_red_green_and_blue():
    wavelengths = torch.tensor([900.0, 645.0, 480.0, 563.0])
    cube = torch.rand(4, 20, 20)
    image = plots.rgb(cube, wavelengths)
    assert image.shape == (20, 20, 3) and image.min() == 0 and image.max() == 1
    for colour, band in enumerate((1, 3, 2)):
        inside = (image[..., colour] > 0) & (image[..., colour] < 1)
        correlation = np.corrcoef(image[..., colour][inside], cube[band].numpy()[inside])[0, 1]
        assert correlation > 0.999


def test_pictures_with_a_common_reference_can_be_compared():
    wavelengths, cube = torch.tensor([650.0, 560.0, 480.0]), torch.rand(3, 20, 20)
    assert (
        plots.rgb(cube * 0.5, wavelengths, reference=cube) <= plots.rgb(cube, wavelengths)
    ).all()
    assert np.allclose(plots.rgb(cube * 0.5, wavelengths), plots.rgb(cube, wavelengths))


def test_spectra_are_sorted_and_broken_at_gaps():
    figure, axis = plt.subplots()
    wavelengths = torch.tensor([400.0, 420.0, 410.0, 600.0])
    plots.spectra_axes(axis, wavelengths, {"a": torch.tensor([1.0, 3.0, 2.0, 4.0])}, "unit")
    x, y = axis.lines[0].get_data()
    assert x[:3].tolist() == [400, 410, 420] and np.isnan(x[3]) and x[4] == 600
    assert y[:3].tolist() == [1, 2, 3] and np.isnan(y[3]) and y[4] == 4
    plt.close(figure)


def test_saving_twice_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    contents = []
    for _ in range(2):
        figure, axis = plt.subplots()
        axis.imshow(np.eye(4))
        plots.save(figure, "picture")
        contents.append((tmp_path / "runs" / "figures" / "picture.png").read_bytes())
        plt.close(figure)
    assert contents[0] == contents[1]


def test_a_figure_is_described_by_its_words():
    figure, (left, right) = plt.subplots(1, 2)
    left.plot([1, 2], label="fused")
    left.set(title="spectra", xlabel="wavelength [nm]", ylabel="radiance")
    right.text(0, 0, "oxygen\ndip")
    right.text(0, 0, "0.5")
    assert plots.describe(figure) == "spectra; radiance over wavelength [nm]; fused; oxygen dip"
    assert plots.describe(plt.figure()) == "figure"
    plt.close("all")


def test_a_notebook_stores_the_description_with_the_picture():
    begin = "from s3rnet_lite.course import plots\nplots.start()\nplots.start()"
    draw = "import numpy as np\nplots.show_row({'truth': np.eye(3)}, width=2);"
    cells = [nbformat.v4.new_code_cell(source) for source in (begin, draw)]
    notebook = NotebookClient(nbformat.v4.new_notebook(cells=cells)).execute()
    [output] = notebook.cells[1].outputs
    assert output.data["image/png"].startswith("iVBOR")
    assert output.metadata["image/png"]["alt"] == "truth"
