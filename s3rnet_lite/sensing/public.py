"""Scenes that people in this field use: what their files hold, which bands those are, and where
they come from; more scenes than that of notebooks/01_degradation.ipynb. None is redistributed here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..files import formats, reading

UPV = "https://www.ehu.eus/ccwintco/index.php/Hyperspectral_Remote_Sensing_Scenes"
RSLAB = "https://rslab.ut.ac.ir/data"
UNCLEAR = "not stated"

# Of AVIRIS from 1995 on: first and last channel of each spectrometer, centre of the first and step
# in nm; within 0.8 nm of the calibration that comes with Jasper Ridge.
AVIRIS = (
    (1, 32, 369.7, 9.863),
    (33, 96, 663.9, 9.602),
    (97, 160, 1254.4, 9.956),
    (161, 224, 1879.0, 9.976),
)
HYPERION = ((1, 70, 355.6, 10.175), (71, 242, 851.9, 10.09))  # EO-1's two spectrometers


@dataclass(frozen=True)
class PublicScene:
    """What is known of a distributed file.

    shape: (bands, height, width).
    centres_nm: of all bands, or None where the distributor does not say which bands were kept.
    variable: of a MATLAB file; "" of other formats.
    matrix: the cube is stored as (bands, pixels), and pixels run down the columns first.
    kind: "file", "tiles" (a folder of GeoTIFFs, which know their place) or "bands" (a folder with
        one picture a band, in the order of their names).
    pixel_m: size of a pixel on the ground, or None.
    sha256: of the copy that was looked at here, or None: described from its documentation only.
    """

    name: str
    sensor: str
    shape: tuple[int, int, int]
    centres_nm: tuple[float, ...] | None
    variable: str
    source: str
    licence: str
    pixel_m: float | None = None
    matrix: bool = False
    kind: str = "file"
    sha256: str | None = None
    values: str = "as stored; scenes go min-max to [0, 1]"

    def read(self, path: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
        """Cube (C, H, W) float32, NaN where there is no data, and centres and widths of its bands
        (C,) in nm, None where nobody says.

        Raises:
            FileNotFoundError, ValueError: not there, or not this scene.
        """
        wanted = "file" if self.kind == "file" else "folder"
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such {wanted}; {self.name} is at {self.source}")
        if path.is_dir() != (self.kind != "file"):
            raise ValueError(f"{path}: expected a {wanted}; see {self.source}")
        centres = None if self.centres_nm is None else np.array(self.centres_nm)
        widths = None
        if self.kind == "tiles":
            cube, centres, widths = _tiles(path)
        elif self.kind == "bands":
            cube = _pictures(path)
        elif self.matrix:
            cube = _matrix(path, self.variable, self.shape)
        else:
            order = "HWC" if centres is None and path.suffix == ".mat" else None
            file = formats.open_cube(path, self.variable or None, centres, order)
            cube = file.read()
            if centres is None:
                centres, widths = file.wavelengths_nm, file.fwhm_nm
        if len(cube) != self.shape[0]:
            raise ValueError(
                f"{path}: {self.name} has {self.shape[0]} bands, the file {len(cube)}; "
                "scenes.load takes any file"
            )
        return cube, centres, widths

    def is_the_known_copy(self, path: Path) -> bool | None:
        """Whether the file is the one looked at here; None if none was."""
        if self.sha256 is None or path.is_dir():
            return None
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


def _matrix(path: Path, variable: str, shape: tuple[int, int, int]) -> np.ndarray:
    """A MATLAB matrix (bands, pixels) as a cube; MATLAB counts pixels down the columns first."""
    from scipy.io import loadmat

    bands, height, width = shape
    with reading.naming(path):
        variables = loadmat(path, variable_names=[variable])
    if variable not in variables or variables[variable].shape != (bands, height * width):
        found = variables[variable].shape if variable in variables else "nothing of that name"
        raise ValueError(
            f"{path}: expected a variable {variable} of {bands} x {height * width}, got {found}"
        )
    cube = variables[variable].reshape(bands, width, height).transpose(0, 2, 1)
    return np.ascontiguousarray(cube, dtype=np.float32)


def _tiles(folder: Path) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """GeoTIFFs of equal size, put together by their place on the map."""
    places = {}
    for path in folder.glob("*.tif"):
        tile = formats.open_cube(path)
        if edges := formats.bounds(tile):
            places[-edges[1], edges[0]] = tile  # from the top, from the left
    rows, columns = (sorted({place[axis] for place in places}) for axis in (0, 1))
    if not places or len(places) != len(rows) * len(columns):
        raise ValueError(f"{folder}: expected GeoTIFF tiles that fill a rectangle")
    first = places[rows[0], columns[0]]
    cubes = [[places[row, column].read() for column in columns] for row in rows]
    return np.block(cubes), first.wavelengths_nm, first.fwhm_nm


def _pictures(folder: Path) -> np.ndarray:
    """One grey picture a band, in the order of their names."""
    from matplotlib.image import imread

    paths = sorted(folder.glob("*.png"))
    if not paths:
        raise ValueError(f"{folder}: expected one .png a band, got none")
    with reading.naming(folder):
        return np.stack([imread(path) for path in paths]).astype(np.float32)


def spectrometer(pieces: Iterable[tuple[int, int, float, float]], kept: Iterable[int]) -> tuple:
    """Centres in nm of the channels `kept`, counted from 1."""
    grid = {
        channel: first_nm + step * (channel - first)
        for first, last, first_nm, step in pieces
        for channel in range(first, last + 1)
    }
    return tuple(round(grid[channel], 2) for channel in kept)


def without(count: int, *dropped: range | int) -> list[int]:
    """Channels 1 to `count` but some, each a number or a range."""
    gone = {n for one in dropped for n in ([one] if isinstance(one, int) else one)}
    return [n for n in range(1, count + 1) if n not in gone]


def _even(first: float, last: float, count: int) -> tuple[float, ...]:
    return tuple(np.linspace(first, last, count).round(2).tolist())


_HYPERION_128 = [*range(8, 57), *range(83, 97), *range(102, 119), *range(135, 163)]
_HYPERION_128 += [*range(194, 197), *range(202, 215), *range(216, 220)]
_BOTSWANA = [*range(10, 56), *range(82, 98), *range(102, 120), *range(134, 165), *range(187, 221)]
_HYDICE_URBAN = without(210, range(1, 5), 76, 87, range(101, 112), range(136, 154), range(198, 211))
_AVIRIS_JASPER = without(224, range(1, 4), range(108, 113), range(154, 167), range(220, 225))
_AVIRIS_SAN_DIEGO = without(
    224, range(1, 7), range(33, 36), 97, range(107, 114), range(153, 167), range(221, 225)
)
_AVIRIS_SALINAS = without(224, range(108, 113), range(154, 168), 224)
_AVIRIS_CUPRITE = without(224, 1, 2, range(104, 114), range(148, 168), range(221, 225))

PUBLIC = {
    scene.name: scene
    for scene in (
        PublicScene(
            "jasper_ridge", "AVIRIS", (198, 100, 100), spectrometer(AVIRIS, _AVIRIS_JASPER), "Y",
            "https://github.com/MeiShaohui/Spectral-Variability-Augmented-Sparse-Unmixing, data/",
            UNCLEAR, 20.0, matrix=True,
            sha256="7dd702f9958510f35c7fee35f7f18ecfca393c9eebd39bddf6c9b7d147754caa",
        ),
        PublicScene(
            "san_diego", "AVIRIS", (189, 100, 100), spectrometer(AVIRIS, _AVIRIS_SAN_DIEGO), "data",
            "https://github.com/xdjiangkai/LREN, datasets/avirs/", UNCLEAR, 3.5,
            sha256="9800a9fbd9d043c46171b14c5ef1077f57be287ccf3a61198cc1746b6217d2cb",
        ),
        PublicScene(
            "samson", "SAMSON", (156, 95, 95), _even(401, 889, 156), "V",
            "https://github.com/vleplat/Tubal_TT, DataSets/Samson/", UNCLEAR, matrix=True,
            sha256="1ebacaf7cd32bfc31c0ee3fd56c63a7f29a434893a8b45705fb59cd8a0c8beb6",
        ),
        PublicScene(
            "enmap_potsdam", "EnMAP L2A", (224, 64, 96), None, "",
            "https://github.com/EnMAP-Box/enmap-box, tests/testdata/external/specdeepmap/",
            UNCLEAR, 30.0, kind="tiles",
            values="reflectance; six of the bands hold no data and are left out",
        ),
        PublicScene(
            "paris", "Hyperion", (128, 72, 72), spectrometer(HYPERION, _HYPERION_128), "HSim",
            "https://github.com/alfaiate/HySure, data/", UNCLEAR, 30.0,
            sha256="81e13528535ff32a0e0069368daa3aa9206d1393317391571a29958f5f57d839",
        ),
        PublicScene(
            "pavia_university", "ROSIS", (103, 610, 340), _even(430, 860, 103), "paviaU", UPV,
            UNCLEAR, 1.3,
        ),
        PublicScene(
            "pavia_centre", "ROSIS", (102, 1096, 715), _even(430, 860, 102), "pavia", UPV,
            UNCLEAR, 1.3,
        ),
        PublicScene(
            "salinas", "AVIRIS", (204, 512, 217), spectrometer(AVIRIS, _AVIRIS_SALINAS),
            "salinas_corrected", UPV, UNCLEAR, 3.7,
        ),
        PublicScene("ksc", "AVIRIS", (176, 512, 614), None, "KSC", UPV, UNCLEAR, 18.0),
        PublicScene(
            "botswana", "Hyperion", (145, 1476, 256), spectrometer(HYPERION, _BOTSWANA),
            "Botswana", UPV, UNCLEAR, 30.0,
        ),
        PublicScene(
            "washington_dc", "HYDICE", (191, 1280, 307), None, "",
            "https://engineering.purdue.edu/~biehl/MultiSpec/hyperspectral.html", UNCLEAR, 3.0,
        ),
        PublicScene(
            "chikusei", "Hyperspec-VNIR-C", (128, 2517, 2335), _even(363, 1018, 128), "chikusei",
            "https://naotoyokoya.com/Download.html", "see source", 2.5,
        ),
        PublicScene(
            "houston_2013", "CASI", (144, 349, 1905), _even(380, 1050, 144), "",
            "https://hyperspectral.ee.uh.edu/?page_id=459", "see source", 2.5,
        ),
        PublicScene(
            "urban", "HYDICE", (162, 307, 307),
            tuple(_even(400, 2500, 210)[n - 1] for n in _HYDICE_URBAN), "Y", RSLAB, UNCLEAR, 2.0,
            matrix=True,
        ),
        PublicScene(
            "cuprite", "AVIRIS", (188, 250, 190), spectrometer(AVIRIS, _AVIRIS_CUPRITE), "Y", RSLAB,
            UNCLEAR, 20.0, matrix=True,
        ),
        PublicScene(
            "cave", "Apogee Alta U260 with a tunable filter", (31, 512, 512), _even(400, 700, 31),
            "", "https://www.cs.columbia.edu/CAVE/databases/multispectral/", "see source",
            kind="bands",
        ),
        PublicScene(
            "harvard", "Nuance FX", (31, 1040, 1392), _even(420, 720, 31), "ref",
            "https://vision.seas.harvard.edu/hyperspec/", "see source",
        ),
    )
}  # fmt: skip


def table() -> str:
    """All of `PUBLIC` as lines of text."""
    lines = [f"{'name':<18}{'bands x height x width':<24}{'nm':<12}{'variable':<19}sensor, source"]
    for scene in PUBLIC.values():
        centres = scene.centres_nm
        span = f"{min(centres):.0f}-{max(centres):.0f}" if centres else "in the file"
        if scene.kind == "file" and not centres:
            span = "not stated"
        size = " x ".join(map(str, scene.shape))
        where = f"{scene.sensor}, {scene.source}"
        lines.append(f"{scene.name:<18}{size:<24}{span:<12}{scene.variable:<19}{where}")
    return "\n".join(lines)
