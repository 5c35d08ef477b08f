"""Crops: real pixels, degraded alone, whichever part of a batch is asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_training import QUICK, tiny

from s3rnet_lite import training
from s3rnet_lite.training import crops
from s3rnet_lite.training.crops import CropSampler


def test_crops_are_the_degraded_versions_of_real_pixels(small_train, degrade6):
    """Every crop is found in the scene, up to flips and rotations, and its inputs are its own
    degradation.
    """
    sampler = CropSampler([small_train.cube], degrade6, 8)
    x_h, x_m, y = sampler.batch(6, torch.Generator().manual_seed(3))
    windows = small_train.cube[0].unfold(0, 8, 1).unfold(1, 8, 1).reshape(-1, 8, 8)
    for i in range(6):
        turned = [y[i, 0].rot90(k) for k in range(4)]
        candidates = torch.stack(turned + [t.flip(0) for t in turned])
        assert (windows[:, None] == candidates).flatten(2).all(-1).any()
        matrix = torch.from_numpy(degrade6.spatial_matrix(8, 8).toarray())
        torch.testing.assert_close(
            x_h[i].double().flatten(1), y[i].double().flatten(1) @ matrix.T, atol=1e-6, rtol=0
        )
        torch.testing.assert_close(x_m[i].flatten(1), degrade6.srf @ y[i].flatten(1))


def test_all_eight_orientations_occur(degrade6):
    ramp = torch.arange(64.0).reshape(8, 8).expand(170, 8, 8)
    sampler = CropSampler([ramp], degrade6, 8)
    _, _, y = sampler.batch(200, torch.Generator().manual_seed(0))
    assert len({tuple(image[0].flatten().tolist()) for image in y}) == 8


@pytest.mark.parametrize("crop", [0, 10, 400])
def test_crops_that_do_not_fit_are_refused(crop, small_train, degrade6):
    with pytest.raises(ValueError, match="crop: expected a multiple of 4"):
        CropSampler([small_train.cube], degrade6, crop)


def test_parts_of_a_batch_do_not_depend_on_how_it_is_cut(small_train, degrade6):
    sampler = CropSampler(
        [small_train.cube, small_train.cube.flip(1)], degrade6, 16, mixing=0.5, snr_db=(10.0, 30.0)
    )
    whole = sampler.draw(6, torch.Generator().manual_seed(4))
    generator = torch.Generator().manual_seed(4)
    plain = CropSampler(sampler.references, degrade6, 16).draw(6, generator).y
    share = 0.5 * torch.rand(6, 1, 1, 1, generator=generator)
    torch.testing.assert_close(
        whole.y, plain + share * (plain.roll(1, dims=0) - plain)
    )  # each with the one before it, in a ring

    @given(st.integers(0, 5), st.integers(1, 6))
    def check(start: int, length: int):
        part = sampler.draw(6, torch.Generator().manual_seed(4), slice(start, start + length))
        assert part.snr_db == whole.snr_db and len(part.y) == min(length, 6 - start)
        torch.testing.assert_close(part.y, whole.y[start : start + length])
        assert torch.equal(part.noise, whole.noise[start : start + length])

    check()


def test_whole_numbers_stand_for_the_range_from_0_to_1(tmp_path, small_train, degrade6):
    """A memory map of uint16 gives the crops of the same image in float32, to half of its step."""
    np.save(tmp_path / "numbers.npy", (small_train.cube.numpy() * 65535).round().astype(np.uint16))
    stored = torch.from_numpy(np.load(tmp_path / "numbers.npy", mmap_mode="c"))
    of_numbers, of_floats = (
        CropSampler([y], degrade6, 16).draw(5, torch.Generator().manual_seed(1)).y
        for y in (stored, small_train.cube)
    )
    assert of_numbers.dtype == torch.float32
    torch.testing.assert_close(of_numbers, of_floats, atol=0.51 / 65535, rtol=0)
    with pytest.raises(TypeError, match="references: expected float32 in"):
        CropSampler([small_train.cube.double()], degrade6, 16)


def test_statistics_of_a_large_data_set_are_those_of_some_of_it(degrade6):
    numbers = torch.randint(65536, (200, 170, 20, 20), dtype=torch.int32).to(torch.uint16)
    chosen = crops.sample(list(numbers), images=64, side=16)
    assert len(chosen) == 64 and chosen[0].shape == (170, 16, 16)
    assert torch.equal(chosen[3], numbers[9, :, :16, :16].float() / 65535)
    with pytest.raises(ValueError, match="degrade: expected a Degradation"):
        training.wrap(tiny(), list(numbers), QUICK)
