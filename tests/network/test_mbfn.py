"""MBFN: residual groups by hand, what each branch sees and at which resolution, and sizes by
arithmetic.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import ndimage

from s3rnet_lite import MBFN
from s3rnet_lite.analysis.probes import record
from s3rnet_lite.network.mbfn import Branch, ResidualGroup

BRANCHES = ("q", "k", "v", "z")
DFAB_SIZE = 432_924  # width 86, growth 43, kernel 3


def small(scale: int = 4, upsampling: str = "nearest", q_groups: int = 1) -> MBFN:
    network = MBFN(
        5,
        3,
        scale,
        width=6,
        growth=4,
        residual_groups=(2, 1, 1, 2),
        blocks=2,
        kernel_size=3,
        q_groups=q_groups,
        upsampling=upsampling,
    )
    return network.eval()


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def first_input(network: MBFN, branch: str, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
    """What a branch is given."""
    seen = []
    handle = getattr(network, branch).register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0])
    )
    network(x_h, x_m)
    handle.remove()
    return seen[0]


def ramp(size: int, bands: int) -> torch.Tensor:
    rows = torch.arange(size, dtype=torch.float64)[:, None].expand(size, size)
    return torch.stack([(band + 1) * rows for band in range(bands)])[None]


def test_a_residual_group_is_its_blocks_in_sequence_scaled_plus_its_input():
    group = ResidualGroup(6, 4, blocks=3).double()
    for parameter in group.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    first, second, third = group
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(group(x), 0.2 * third(second(first(x))) + x)


def test_a_branch_is_a_convolution_a_leaky_relu_and_its_groups():
    branch = Branch(5, 6, 4, residual_groups=2, blocks=1, kernel_size=3, groups=1).double()
    x = torch.randn(1, 5, 6, 6, dtype=torch.float64)
    entry = F.conv2d(x, branch[0].weight, branch[0].bias, padding=1)
    entry = torch.where(entry > 0, entry, 0.2 * entry)
    assert len(branch) == 4
    torch.testing.assert_close(branch(x), branch[3](branch[2](entry)))


@pytest.mark.parametrize(
    ("msi_bands", "sizes"),
    [
        (4, {"q": 5_328_302, "k": 5_198_270, "v": 7_928_942, "z": 7_928_942}),
        (6, {"q": 5_328_302, "k": 5_199_818, "v": 7_930_490, "z": 7_930_490}),
    ],
)
def test_branches_have_the_published_sizes_and_these_follow_by_arithmetic(msi_bands, sizes):
    with torch.device("meta"):
        network = MBFN(
            172,
            msi_bands,
            4,
            86,
            43,
            (4, 4, 6, 6),
            blocks=3,
            kernel_size=3,
            q_groups=1,
            upsampling="nearest",
        )
    inputs = {"q": 172, "k": msi_bands, "v": 172 + msi_bands, "z": 172 + msi_bands}
    groups = {"q": 4, "k": 4, "v": 6, "z": 6}
    for name in BRANCHES:
        by_arithmetic = inputs[name] * 86 * 9 + 86 + groups[name] * 3 * DFAB_SIZE
        assert parameters(getattr(network, name)) == by_arithmetic == sizes[name]


def test_groups_thin_out_q_and_no_other_branch():
    plain, grouped = small(), small(q_groups=2)
    pairs = [(10, 4), (14, 4), (18, 4), (22, 6)]  # of a DFAB: 6 -> 4, then these
    weights = 9 * (6 * 4 + sum(i * o for i, o in pairs))
    assert (
        parameters(plain.q) - parameters(grouped.q) == 2 * 2 * weights // 2
    )  # two groups of two DFABs, half the weights
    for name in ("k", "v", "z"):
        assert parameters(getattr(grouped, name)) == parameters(getattr(plain, name))


@pytest.mark.parametrize(
    ("touched", "changed"), [("x_h", {"q", "v", "z"}), ("x_m", {"k", "v", "z"})]
)
def test_each_branch_sees_the_images_of_equation_1_and_no_others(touched, changed):
    network = small()
    inputs = {"x_h": torch.rand(1, 5, 4, 5), "x_m": torch.rand(1, 3, 16, 20)}
    before = network(**inputs)
    inputs[touched] = torch.rand_like(inputs[touched])
    after = network(**inputs)
    assert {
        name for name, a, b in zip(BRANCHES, before, after, strict=True) if not torch.equal(a, b)
    } == changed


def test_q_and_v_work_at_low_resolution_k_and_z_at_high_and_all_come_out_high():
    network = small()
    with (
        record(network.q) as q,
        record(network.k) as k,
        record(network.v) as v,
        record(network.z) as z,
    ):
        outputs = network(torch.rand(2, 5, 4, 5), torch.rand(2, 3, 16, 20))
    assert q[0].shape == v[0].shape == (2, 6, 4, 5)
    assert k[0].shape == z[0].shape == (2, 6, 16, 20)
    assert {output.shape for output in outputs} == {(2, 6, 16, 20)}


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_nearest_upsampling_repeats_each_low_resolution_value_in_its_block(scale):
    network = small(scale)
    with record(network.q) as q, record(network.v) as v:
        up_q, _, up_v, _ = network(torch.rand(1, 5, 4, 5), torch.rand(1, 3, 4 * scale, 5 * scale))
    for low, high in ((q[0], up_q), (v[0], up_v)):
        np.testing.assert_array_equal(
            high.detach()[0].numpy(), np.kron(low[0].numpy(), np.ones((1, scale, scale)))
        )


def test_bilinear_upsampling_keeps_pixel_centres():
    network = small(upsampling="bilinear")
    with record(network.q) as q:
        up_q = network(torch.rand(1, 5, 4, 5), torch.rand(1, 3, 16, 20))[0]
    expected = ndimage.zoom(q[0].numpy()[0], (1, 4, 4), order=1, mode="nearest", grid_mode=True)
    np.testing.assert_allclose(up_q.detach()[0].numpy(), expected, atol=1e-6)


def test_v_is_given_the_msi_and_then_the_hsi_z_the_hsi_and_then_the_msi():
    network = small()
    x_h, x_m = torch.rand(1, 5, 4, 5), torch.rand(1, 3, 16, 20)
    assert torch.equal(first_input(network, "v", x_h, x_m)[:, 3:], x_h)
    assert torch.equal(first_input(network, "z", x_h, x_m)[:, 5:], x_m)
    assert torch.equal(first_input(network, "q", x_h, x_m), x_h)
    assert torch.equal(first_input(network, "k", x_h, x_m), x_m)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_both_resamplings_agree_with_the_phase_of_the_degradation(scale):
    network = small(scale).double()
    centres = scale * torch.arange(8, dtype=torch.float64) + (scale - 1) / 2
    x_m = ramp(8 * scale, 3)
    x_h = (
        ramp(8, 5) * scale + (torch.arange(5) + 1)[:, None, None] * (scale - 1) / 2
    )  # the same ramp, seen at low resolution
    down = first_input(network, "v", x_h, x_m)[0, :3]
    up = first_input(network, "z", x_h, x_m)[0, :5]
    rows = torch.arange(8 * scale, dtype=torch.float64)
    for band in range(3):
        torch.testing.assert_close(down[band, 1:-1, 4], (band + 1) * centres[1:-1])
    for band in range(5):
        torch.testing.assert_close(up[band, scale:-scale, 4], (band + 1) * rows[scale:-scale])
