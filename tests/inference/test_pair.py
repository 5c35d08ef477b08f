"""A pair before anything is trained: its split, its noise, and pairs that are refused."""

import json
import re

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_fusion import TINY

from s3rnet_lite import Degradation, baselines, metrics
from s3rnet_lite.inference import adaptation, pair, report
from s3rnet_lite.sensing.degradation import add_noise

pytestmark = pytest.mark.slow  # not part of `make check`


def test_the_reduced_pair_is_as_noisy_as_the_pair():
    """White noise on a scene of five spectra: what reaches the methods at low resolution has its
    standard deviation again.
    """
    clean = (
        torch.einsum("ck,khw->chw", torch.rand(30, 5), torch.rand(5, 64, 64).cumsum(1).cumsum(2))
        / 5_000
    )
    sigma, degrade = 0.01, Degradation(4, 1.7, torch.full((1, 30), 1 / 30))
    x_h = clean + sigma * torch.randn_like(clean)
    reduced = degrade.spatial(x_h)
    assert (reduced - degrade.spatial(clean)).std() < sigma / 5
    snr_db = pair.lost_noise(x_h, reduced, degrade)
    assert float((add_noise(reduced, snr_db) - degrade.spatial(clean)).std()) == pytest.approx(
        sigma, rel=0.05
    )
    assert pair.lost_noise(x_h[:, :6, :8], reduced, degrade) is None


@given(
    scale=st.integers(2, 8),
    rows=st.integers(3, 20),
    columns=st.integers(3, 20),
    more=st.tuples(*[st.integers(0, 7)] * 2),
)
def test_splits_are_apart_and_on_the_grid(scale, rows, columns, more):
    height, width = rows * scale + more[0] % scale, columns * scale + more[1] % scale
    if max(rows, columns) < 5 or min(height, width) < 8:
        with pytest.raises(ValueError, match="too few to be degraded"):
            pair.split(height, width, scale)
        return
    (train, held_out), used = pair.split(height, width, scale), torch.zeros(height, width)
    for value, part in ((1, train), (2, held_out)):
        assert all(edge % scale == 0 for axis in part for edge in (axis.start, axis.stop))
        assert (used[part] == 0).all() and min(used[part].shape) >= 2 * scale
        used[part] = value
    apart = torch.nn.functional.max_pool2d((used == 2).float()[None], 2 * scale + 1, 1, scale)[0]
    assert not bool(((apart > 0) & (used == 1)).any())


def shifted(x_m: torch.Tensor, rows: float, columns: float) -> torch.Tensor:
    numbers = scipy.ndimage.shift(x_m.double(), (0, rows, columns), order=3, mode="mirror")
    return torch.from_numpy(numbers).float()


@pytest.mark.parametrize("shift", [(0.7, -1.2), (5.0, 2.0)])
def test_a_shifted_pair_is_refused_with_its_shift(other_sensor, shift):
    _, x_h, x_m, *_ = other_sensor
    with pytest.raises(ValueError, match="x_m: expected to be aligned with x_h") as error:
        adaptation.adapt(x_h, shifted(x_m, *shift), config=TINY, progress=False)
    numbers = [float(number) for number in re.findall(r"[+-]\d+\.\d+", str(error.value))]
    assert numbers == pytest.approx(shift, abs=0.1)


def test_another_place_is_refused(other_sensor):
    _, x_h, x_m, *_ = other_sensor
    with pytest.raises(ValueError, match="expected images of the same place"):
        adaptation.adapt(x_h, x_m.flip(2), config=TINY, progress=False)


@pytest.mark.parametrize(("bands", "closed"), [(4, "sylvester"), (1, None)])
def test_too_small_a_pair_is_fused_in_closed_form_and_told_why(
    bands, closed, other_sensor, tmp_path
):
    y, x_h, x_m, *_ = other_sensor
    np.save(tmp_path / "h.npy", x_h[:, :16, :16])
    np.save(tmp_path / "m.npy", x_m[:bands, :64, :64])
    found, written = report.run(tmp_path / "h.npy", tmp_path / "m.npy", tmp_path / "y.npy")
    assert [path.name for path in written] == ["y.npy", "y_report.json"]
    stored = json.loads(written[1].read_text())
    method = stored["written"]["method"]
    assert closed is None or method == closed
    assert stored["recommendation"].startswith(f"Written is {method}, without a network. x_h: 16 x")
    bicubic = metrics.rmse(baselines.upsample(x_h[:, :16, :16], 4, "bicubic"), y[:, :64, :64])
    assert found.model is None and metrics.rmse(found.y_hat, y[:, :64, :64]) < 1.1 * bicubic


def test_half_a_pixel_costs_more_than_the_choice_of_method(other_sensor):
    """Why the tolerance is not larger: at 0.5 pixels the best method falls below one that ranks far
    lower without a shift.
    """
    y, *_, srf = other_sensor
    degrade, y = Degradation(4, 1.7, srf), (y - y.min()) / 1000
    x_h, x_m = degrade(y)

    def quality(name: str, shift: float) -> float:
        return metrics.pooled_psnr(baselines.run(name, x_h, shifted(x_m, shift, 0), degrade), y)

    aligned, off = quality("sylvester", 0), quality("sylvester", pair.LARGEST_SHIFT)
    assert quality("bicubic", 0) + 3 < off < quality("gsa", 0) < aligned
    assert quality("sylvester", 2) < quality("bicubic", 0) + 1
