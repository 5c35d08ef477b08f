"""QRCODE: the convex solution against an explicit minimiser, window attention against a naive loop,
sizes by formula.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite import DFAB, peers
from s3rnet_lite.analysis.probes import record
from s3rnet_lite.peers.qrcode import QRCODE, ConvexFusion, ResidualStream
from s3rnet_lite.peers.swin import SwinGroup, WindowAttention


def pair(
    bands: int = 12, msi_bands: int = 3, height: int = 6, width: int = 5, batch: int = 1
) -> tuple[torch.Tensor, torch.Tensor]:
    """Correlated random images in float64: the LR-HSI is the block mean of a scene that the HR-MSI
    sees in a few bands.
    """
    y = torch.randn(batch, bands, 4 * height, 4 * width, dtype=torch.float64).cumsum(2).cumsum(3)
    srf = torch.rand(msi_bands, bands, dtype=torch.float64)
    return F.avg_pool2d(y, 4), torch.einsum("mc,bchw->bmhw", srf, y)


def centre(x: torch.Tensor) -> torch.Tensor:
    return x - x.mean((2, 3), keepdim=True)


@given(
    bands=st.integers(3, 15),
    msi_bands=st.integers(1, 5),
    height=st.integers(2, 5),
    width=st.integers(2, 5),
    rank=st.integers(1, 10),
)
def test_convex_solution_is_the_minimiser_that_least_squares_finds(
    bands, msi_bands, height, width, rank
):
    x_h, x_m = pair(bands, msi_bands, height, width)
    convex = ConvexFusion(4, rank, weight=0.01)
    basis, maps = convex.decompose(centre(x_h))
    left_out = basis.square().sum(1, keepdim=True).mT == 0  # as many maps as pixels allow
    lr = centre(F.avg_pool2d(x_m, 4)).flatten(2)[0]
    response = torch.linalg.lstsq(maps[0].flatten(1).mT, lr.mT, driver="gelsd").solution.mT  # G
    lam = 0.01 * centre(x_m).square().mean()
    prior = F.interpolate(maps, scale_factor=4, mode="bicubic", align_corners=False)[0].flatten(1)

    stacked = torch.cat([response, lam.sqrt() * torch.eye(len(prior), dtype=torch.float64)])
    target = torch.cat([centre(x_m)[0].flatten(1), lam.sqrt() * prior])
    solution = torch.linalg.lstsq(stacked, target).solution
    expected = (basis[0] @ solution).reshape(1, bands, *x_m.shape[2:]) + x_h.mean(
        (2, 3), keepdim=True
    )
    torch.testing.assert_close(
        convex(x_h, x_m), expected, rtol=1e-6, atol=1e-6 * x_h.abs().max().item()
    )
    assert torch.equal(maps.flatten(2).square().sum(2, keepdim=True) == 0, left_out)


def test_the_objectives_gradient_vanishes_at_the_solution():
    response, x_m, prior = (
        torch.randn(1, *shape, dtype=torch.float64) for shape in ((3, 7), (3, 40), (7, 40))
    )
    lam = torch.full((1, 1, 1), 0.3, dtype=torch.float64)
    s = ConvexFusion.solve(response, x_m, prior, lam).requires_grad_()
    objective = 0.5 * (x_m - response @ s).square().sum() + 0.15 * (s - prior).square().sum()
    (gradient,) = torch.autograd.grad(objective, s)
    assert gradient.abs().max().item() < 1e-12
    torch.testing.assert_close(
        ConvexFusion.solve(response[..., :1], x_m, 0 * prior[:, :1], lam)[0, 0],
        (response[0, :, :1] * x_m[0]).sum(0) / (response[0, :, 0].square().sum() + 0.3),
    )


def test_maps_are_uncorrelated_of_variance_one_and_explain_what_the_svd_explains():
    x = centre(pair(bands=12, height=6)[0])
    basis, maps = ConvexFusion(4, rank=5, weight=0.01).decompose(x)
    flat = maps[0].flatten(1)
    torch.testing.assert_close(flat @ flat.mT / 30, torch.eye(5, dtype=torch.float64))
    u, s, vh = torch.linalg.svd(x[0].flatten(1), full_matrices=False)
    torch.testing.assert_close(basis[0] @ flat, u[:, :5] * s[:5] @ vh[:5])


def test_a_scene_of_low_rank_comes_back_whole():
    abundances = torch.randn(1, 3, 24, 20, dtype=torch.float64)
    y = torch.einsum("cn,bnhw->bchw", torch.randn(12, 3, dtype=torch.float64), abundances) + 5
    x_m = torch.einsum("mc,bchw->bmhw", torch.rand(4, 12, dtype=torch.float64), y)
    torch.testing.assert_close(ConvexFusion(4, rank=10, weight=1e-12)(F.avg_pool2d(y, 4), x_m), y)
    bicubic = F.interpolate(F.avg_pool2d(y, 4), scale_factor=4, mode="bicubic", align_corners=False)
    torch.testing.assert_close(
        ConvexFusion(4, rank=10, weight=1e12)(F.avg_pool2d(y, 4), x_m), bicubic
    )


def test_scaling_an_input_only_scales_the_convex_solution():
    x_h, x_m = pair(batch=2)
    convex = ConvexFusion(4, rank=10, weight=0.01)
    offset = torch.randn(12, 1, 1, dtype=torch.float64)
    torch.testing.assert_close(
        convex(3 * x_h + offset, 0.2 * x_m - 7), 3 * convex(x_h, x_m) + offset
    )


def test_axes_that_the_pixels_cannot_show_take_no_part():
    x_h, x_m = pair(height=2, width=2, batch=2)  # four pixels, so three axes around their mean
    with_all = ConvexFusion(4, rank=10, weight=0.01)
    torch.testing.assert_close(with_all(x_h, x_m), ConvexFusion(4, rank=3, weight=0.01)(x_h, x_m))
    basis, maps = with_all.decompose(centre(x_h))
    assert basis.any(1).sum(1).tolist() == maps.flatten(2).any(2).sum(1).tolist() == [3, 3]


def test_inputs_without_any_detail_are_no_trouble():
    x_h, x_m = pair()
    convex = ConvexFusion(4, rank=10, weight=0.01)
    bicubic_of_maps = F.interpolate(x_h, scale_factor=4, mode="bicubic", align_corners=False)
    torch.testing.assert_close(
        ConvexFusion(4, 12, 0.01)(x_h, torch.ones_like(x_m)), bicubic_of_maps
    )
    assert convex(torch.full_like(x_h, 0.3), x_m).sub(0.3).abs().max().item() < 1e-6
    assert convex(torch.zeros_like(x_h), torch.zeros_like(x_m)).abs().max().item() == 0


def test_single_precision_and_autocast_change_the_convex_solution_by_rounding_only():
    x_h, x_m = pair(height=2, width=2)
    convex = ConvexFusion(4, rank=10, weight=0.01)
    expected = convex(x_h, x_m)
    with torch.autocast("cpu", torch.bfloat16):
        single = convex(x_h.float(), x_m.float().requires_grad_())
    assert single.dtype == torch.float32 and not single.requires_grad
    torch.testing.assert_close(
        single.double(), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item()
    )


def naive_window_attention(module: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """One image (H, W, C): windows cut from the unrolled image, those at the border smaller; one
    query at a time.
    """
    height, width, channels = x.shape
    q, k, v = (x @ module.to_qkv.weight.T + module.to_qkv.bias).split(channels, dim=2)
    d = channels // module.heads
    out = torch.zeros_like(x)
    for y in range(height):
        for z in range(width):
            top, left = ((i - module.shift) // 8 * 8 + module.shift for i in (y, z))
            inside = [
                (i, j)
                for i in range(max(top, 0), min(top + 8, height))
                for j in range(max(left, 0), min(left + 8, width))
            ]
            for head in range(module.heads):
                part = slice(head * d, (head + 1) * d)
                logits = torch.stack(
                    [
                        q[y, z, part] @ k[i, j, part] / math.sqrt(d)
                        + module.position_bias[(y - i + 7) * 15 + z - j + 7, head]
                        for i, j in inside
                    ]
                )
                out[y, z, part] = logits.softmax(0) @ torch.stack(
                    [v[i, j, part] for i, j in inside]
                )
    return out @ module.to_out.weight.T + module.to_out.bias


@pytest.mark.parametrize("shift", [0, 4])
@pytest.mark.parametrize("size", [(16, 8), (8, 16)])
def test_window_attention_equals_a_naive_loop_over_windows(shift, size):
    module = WindowAttention(4, heads=2, shift=shift).double()
    torch.nn.init.normal_(module.position_bias)
    x = torch.randn(2, *size, 4, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(module(x)[1], naive_window_attention(module, x[1]))


def test_blocks_lie_on_the_grid_and_between_it_by_turns():
    group = SwinGroup(8, heads=2, blocks=5, mlp_ratio=1)
    assert [block.attention[1].shift for block in group.blocks] == [0, 4, 0, 4, 0]


def test_sizes_by_formula():
    with torch.device("meta"):
        parts = {
            name: sum(p.numel() for p in part.parameters())
            for name, part in peers.build("qrcode").named_children()
        }
        swin = sum(p.numel() for p in SwinGroup(172, 4, 6, 4).parameters())
        dense = sum(p.numel() for p in DFAB(172, 43).parameters())

    def convolution(i: int, o: int) -> int:
        return 9 * i * o + o

    def stream(w: int, g: int, count: int) -> int:  # three dense blocks in each group
        return (
            3
            * count
            * (sum(convolution(w + j * g, g) for j in range(4)) + convolution(w + 4 * g, w))
        )

    w, c, block = (
        172,
        172,
        12 * 172**2 + 13 * 172 + 15**2 * 4,
    )  # attention 4 w^2, perceptron 8 w^2; biases, norms; positions
    assert swin == 6 * block + convolution(w, w) == 2_415_292
    assert 3 * dense == stream(w, 43, 1)
    assert parts == {
        "hsi": convolution(c, 2 * w) + stream(2 * w, 21, 2) + convolution(2 * w, w),
        "msi": convolution(4, w // 2) + stream(w // 2, 86, 2) + convolution(w // 2, w),
        "draft": convolution(w, c) + convolution(c, w) + stream(w, 43, 6) + swin,
        "convex": 0,
        "guide": convolution(c, w) + stream(w, 43, 2),
        "head": 9 * w * c,
    }


def test_the_output_is_the_head_of_draft_plus_guide_also_where_sides_are_padded():
    network = peers.build("qrcode", "lite", 12, 3, width=8, groups=1, growth=4).double()
    x_h, x_m = pair(height=3, width=5)  # 12 x 20 pixels, padded to 16 x 24
    with (
        record(network.draft) as draft,
        record(network.guide) as guide,
        record(network.convex) as convex,
        torch.no_grad(),
    ):
        y_hat = network(x_h, x_m)
    assert draft[0].shape == guide[0].shape == (1, 8, 16, 24)
    torch.testing.assert_close(
        convex[0], ConvexFusion(4, network.convex.rank, network.convex.weight)(x_h, x_m)
    )
    expected = torch.einsum("oi,bihw->bohw", network.head.weight[:, :, 0, 0], draft[0] + guide[0])
    torch.testing.assert_close(y_hat, expected[..., :12, :20])


def test_a_stream_of_silent_groups_doubles_its_input():
    stream = ResidualStream(8, 4, count=2, blocks=3, groups=4)
    for parameter in stream.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 8, 5, 5)
    torch.testing.assert_close(stream(x), (1.2 * 1.2 + 1) * x)  # each group still passes 0.2 x + x


def test_an_odd_scale_is_refused():
    with pytest.raises(ValueError, match="scale: expected an even number"):
        QRCODE(12, 3, scale=3)
