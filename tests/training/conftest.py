"""Flight lines that several test files make a data set of."""

import numpy as np
import pytest
from small_flight_lines import flight_line, write_line

IGNORE = -9999


@pytest.fixture
def lines(tmp_path) -> dict[str, np.ndarray]:
    """Ten files of 2 x 3 patches, of which the last four have a pixel without data in the patch at
    row 32, column 32: told by the header, or by having no spectrum.
    """
    cubes = {}
    for seed in range(10):
        cube, fields = flight_line(seed), {}
        if seed >= 6:
            cube[:, 40, 50] = IGNORE if seed < 8 else 0
            fields["data ignore value"] = IGNORE
        cubes[write_line(tmp_path / f"line{seed}.hdr", cube, **fields)] = cube
    return cubes
