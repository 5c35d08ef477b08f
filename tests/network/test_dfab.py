"""DFAB: Eq. 2 written out by hand, sizes by arithmetic, and the reach of its convolutions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite import DFAB


def randomised(block: DFAB) -> DFAB:
    """Weights large enough for every term of Eq. 2 to matter."""
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return block


def equation_2(block: DFAB, x: torch.Tensor, padding: int, groups: int) -> torch.Tensor:
    """The five convolutions in float64, one named after the other."""
    c1, c2, c3, c4, c5 = ((c.weight.double(), c.bias.double()) for c in block.convolutions)

    def leaky(value):
        return torch.where(value > 0, value, 0.2 * value)

    f0 = x.double()
    f1 = leaky(F.conv2d(f0, *c1, padding=padding, groups=groups))
    f2 = leaky(F.conv2d(torch.cat([f0, f1], 1), *c2, padding=padding, groups=groups))
    f3 = leaky(F.conv2d(torch.cat([f0, f1, f2], 1), *c3, padding=padding, groups=groups))
    f4 = leaky(F.conv2d(torch.cat([f0, f1, f2, f3], 1), *c4, padding=padding, groups=groups))
    return f0 + 0.2 * F.conv2d(
        torch.cat([f0, f1, f2, f3, f4], 1), *c5, padding=padding, groups=groups
    )


@given(
    kernel_size=st.sampled_from([1, 3]),
    groups=st.sampled_from([1, 2]),
    half_width=st.integers(1, 4),
    half_growth=st.integers(1, 3),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
)
def test_output_is_equation_2(kernel_size, groups, half_width, half_growth, height, width):
    block = randomised(DFAB(2 * half_width, 2 * half_growth, kernel_size, groups))
    x = torch.randn(2, 2 * half_width, height, width)
    with torch.no_grad():
        expected = equation_2(block, x, kernel_size // 2, groups)
        torch.testing.assert_close(block.double()(x.double()), expected, atol=1e-10, rtol=1e-10)


def size_by_arithmetic(width: int, growth: int, kernel_area: int, groups: int) -> int:
    size = 0
    for inputs, outputs in [(width + j * growth, growth) for j in range(4)] + [
        (width + 4 * growth, width)
    ]:
        size += inputs * outputs * kernel_area // groups + outputs
    return size


@pytest.mark.parametrize(("kernel_size", "groups"), [(3, 1), (1, 1), (3, 43)])
def test_size_follows_from_the_widths(kernel_size, groups):
    block = DFAB(86, 43, kernel_size, groups)
    assert sum(p.numel() for p in block.parameters()) == size_by_arithmetic(
        86, 43, kernel_size**2, groups
    )


def test_the_papers_block_has_432924_parameters():
    assert sum(p.numel() for p in DFAB(86, 43).parameters()) == 432_924


def test_43_is_the_only_group_number_the_papers_widths_allow():
    for groups in range(2, 43):
        with pytest.raises(ValueError, match="divisible by groups"):
            DFAB(86, 43, groups=groups)
    with torch.device("meta"):
        assert DFAB(86, 43, groups=43)(torch.empty(1, 86, 8, 8)).shape == (1, 86, 8, 8)


def test_with_zero_weights_the_block_is_the_identity():
    block = DFAB(6, 4)
    for parameter in block.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 6, 5, 5)
    assert torch.equal(block(x), x)


def test_the_block_starts_near_the_identity_with_a_tenth_of_kaimings_spread():
    block = DFAB(86, 43)
    for j, convolution in enumerate(block.convolutions):
        fan_in = (86 + 43 * j) * 9
        assert convolution.weight.std().item() == pytest.approx(0.1 * np.sqrt(2 / fan_in), rel=0.03)
        assert convolution.bias.abs().max().item() == 0
    x = torch.randn(1, 86, 8, 8)
    assert 0 < (block(x) - x).norm().item() < 0.05 * x.norm().item()


@pytest.mark.parametrize(("kernel_size", "reach"), [(1, 0), (3, 5)])
def test_five_convolutions_reach_one_pixel_each(kernel_size, reach):
    block = randomised(DFAB(4, 2, kernel_size)).double()
    x = torch.randn(1, 4, 15, 15, dtype=torch.float64)
    touched = x.clone()
    touched[0, :, 7, 7] += 1
    changed = (block(x) != block(touched)).any(1)[0].nonzero()
    assert (changed.min(), changed.max()) == (7 - reach, 7 + reach)


def test_an_undamped_block_adds_its_residual_in_full_and_starts_like_any_convolution():
    damped, plain = DFAB(6, 4), DFAB(6, 4, damped=False)
    assert plain.convolutions[0].weight.std() > 3 * damped.convolutions[0].weight.std()
    plain.load_state_dict(damped.state_dict())
    x = torch.randn(1, 6, 5, 5)
    torch.testing.assert_close(plain(x) - x, 5 * (damped(x) - x))
