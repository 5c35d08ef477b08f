"""FusionMamba: parameter counts in closed form, scans by hand, which way news travels, and the
stacking of streams.
"""

import math

import pytest
import torch
import torch.nn.functional as F

from s3rnet_lite.peers.fusion_mamba import FusionBlock, FusionMamba, Mamba, SpectralAttention


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def directions(width: int, number: int = 4, states: int = 8) -> int:
    """Convolution, x_proj, dt_proj, A and D of each direction."""
    rank = math.ceil(width / 16)
    return number * (
        5 * width + width * (rank + 2 * states) + (rank + 1) * width + width * states + width
    )


@pytest.mark.parametrize("width", [16, 40, 172])
def test_parameter_counts_in_closed_form(width):
    assert parameters(Mamba(1, 4, width, 8)) == 3 * width**2 + 2 * width + directions(width)
    assert parameters(
        Mamba(1, 4, width, 8, two_inputs=True)
    ) == 4 * width**2 + 2 * width + directions(width)
    one_stream = 7 * width**2 + 10 * width + 2 * directions(width)
    assert parameters(FusionBlock(width, 8)) == 2 * one_stream + width**2 + width
    assert parameters(SpectralAttention(width)) == 3 * width**2 + 7 * width + 1 + directions(
        width, 2
    )


@pytest.mark.parametrize(
    ("bands", "msi_bands", "width", "expected"),
    [(8, 1, 32, 735_401), (31, 3, 32, 878_416), (172, 6, 64, 7_008_813)],
)
def test_published_parameter_counts(bands, msi_bands, width, expected):
    with torch.device("meta"):
        assert parameters(FusionMamba(bands, msi_bands, width=width)) == expected


def naive_mamba(
    module: Mamba, stream: int, signal: torch.Tensor, selection: torch.Tensor | None
) -> torch.Tensor:
    """One stream, one image (H, W, width), direction after direction, token after token, as
    published: gates before the sum.
    """
    height, width, channels = signal.shape
    pixels = torch.arange(height * width).reshape(height, width)
    rows, columns = pixels.flatten(), pixels.T.flatten()
    streams = len(module.in_proj.weight)
    x, z = (signal.reshape(-1, channels) @ module.in_proj.weight[stream]).chunk(2, dim=-1)
    total = torch.zeros_like(x)
    for direction, order in enumerate([rows, rows.flip(0), columns, columns.flip(0)]):
        g = direction * streams + stream
        taps = module.convolution.weight.reshape(-1, channels, 4)[g]
        bias = module.convolution.bias.reshape(-1, channels)[g]
        u = torch.stack(
            [
                sum((x[order[t - 3 + k]] * taps[:, k] for k in range(4) if t - 3 + k >= 0), bias)
                for t in range(len(order))
            ]
        )
        u = u * torch.sigmoid(u)
        source = (
            u
            if selection is None
            else (selection.reshape(-1, channels) @ module.in_proj_selection.weight[stream])[order]
        )
        dt, b, c = (source @ module.x_proj.weight[g]).split(
            [module.rank, module.states, module.states], dim=-1
        )
        delta = torch.log1p(torch.exp(dt @ module.dt_proj.weight[g] + module.dt_bias[g]))
        h = torch.zeros(channels, module.states, dtype=x.dtype)
        for t, pixel in enumerate(order):
            h = (
                torch.exp(-delta[t, :, None] * module.a_log[g].exp()) * h
                + (delta[t] * u[t])[:, None] * b[t]
            )
            total[pixel] += (h @ c[t] + module.d[g] * u[t]) * z[pixel] * torch.sigmoid(z[pixel]) / 4
    normed = F.layer_norm(total, (channels,), module.norm.weight[stream], module.norm.bias[stream])
    return (normed @ module.out_proj.weight[stream]).reshape(signal.shape)


@pytest.mark.parametrize("two_inputs", [False, True])
@torch.no_grad()
def test_stacked_streams_and_directions_equal_one_scan_after_another(two_inputs):
    module = Mamba(2, 4, 18, 3, two_inputs).double()
    for p in module.parameters():  # no ones and zeros that could hide a mix-up
        p.add_(0.1 * torch.randn_like(p))
    inputs = [
        torch.randn(2, 2, 3, 5, 18, dtype=torch.float64) for _ in range(2 if two_inputs else 1)
    ]
    output = module(*inputs)
    for stream in range(2):
        for image in range(2):
            signal, *rest = (x[stream, image] for x in inputs)
            torch.testing.assert_close(
                output[stream, image],
                naive_mamba(module, stream, signal, rest[0] if rest else None),
            )


@torch.no_grad()
def test_news_from_one_corner_reaches_the_other_and_two_directions_would_not_do():
    """A pixel in the middle hears from all four corners; with rows read forwards only, from those
    above it.
    """
    module = Mamba(1, 4, 16, 4).double()
    image = torch.randn(1, 1, 9, 9, 16, dtype=torch.float64)
    for corner in ((0, 0), (0, 8), (8, 0), (8, 8)):
        poked = image.clone()
        poked[0, 0, corner[0], corner[1]] += 10
        assert (module(poked) - module(image))[0, 0, 4, 4].abs().max() > 0
    module.a_log.zero_()  # the four directions are groups 0 to 3 of the one stream
    reads = module.x_proj.weight
    reads[1:, :, -4:] = 0  # C = 0: directions 1 to 3 read nothing
    module.d[1:] = 0
    for corner, heard in (((0, 0), True), ((0, 8), True), ((8, 0), False), ((8, 8), False)):
        poked = image.clone()
        poked[0, 0, corner[0], corner[1]] += 10
        assert bool((module(poked) - module(image))[0, 0, 4, 4].abs().max() > 0) == heard


@torch.no_grad()
def test_initial_steps_and_memories():
    """softplus(dt_bias) within [1e-3, 0.1]; A = -1 .. -N; D = 1."""
    module = Mamba(2, 4, 32, 8)
    delta = F.softplus(module.dt_bias)
    assert delta.min() >= 1e-3 * 0.999 and delta.max() <= 0.1 * 1.001 and delta.std() > 0.01
    torch.testing.assert_close(module.a_log.exp(), torch.arange(1.0, 9).expand_as(module.a_log))
    assert (module.d == 1).all()


@torch.no_grad()
def test_blocks_return_means_of_streams_and_fused_map():
    """(p + f) / 2 and (s + f) / 2: with scans that add nothing, f = linear((p + s) / 2)."""
    block = FusionBlock(16, 4).double()
    block.scan.out_proj.weight.zero_()
    block.cross_scan.out_proj.weight.zero_()
    p, s = torch.randn(2, 3, 16, 4, 5, dtype=torch.float64)
    streams, fused = block(torch.cat([p, s]))
    expected = block.fuse(((p + s) / 2).movedim(1, -1)).movedim(-1, 1)
    torch.testing.assert_close(fused, expected)
    torch.testing.assert_close(streams, torch.cat([(p + fused) / 2, (s + fused) / 2]))


@torch.no_grad()
def test_spectral_attention_knows_only_the_brightest_pixel_of_each_band():
    attention = SpectralAttention(16)
    x_h = torch.randn(2, 7, 4, 5)
    weights = attention(x_h)
    assert weights.shape == (2, 7, 1, 1) and (weights > 0).all() and (weights < 1).all()
    shuffled = x_h.flatten(2)[..., torch.randperm(20)].reshape(x_h.shape)
    torch.testing.assert_close(attention(shuffled), weights)


@pytest.mark.parametrize("upsampling", ["subpixel", "bicubic"])
@torch.no_grad()
def test_without_global_skip_only_the_residual_is_left(upsampling):
    with_skip = FusionMamba(9, 3, width=16, states=4, upsampling=upsampling)
    without = FusionMamba(9, 3, width=16, states=4, upsampling=upsampling, global_skip=False)
    without.load_state_dict(with_skip.state_dict())
    x_h, x_m = torch.randn(1, 9, 3, 2), torch.randn(1, 3, 12, 8)
    skip = (
        with_skip.upsampling(x_h)
        if upsampling == "subpixel"
        else F.interpolate(x_h, scale_factor=4, mode="bicubic")
    )
    torch.testing.assert_close(with_skip(x_h, x_m) - without(x_h, x_m), skip, rtol=1e-4, atol=1e-5)


def test_an_unknown_upsampling_is_refused():
    with pytest.raises(ValueError, match="upsampling: expected one of"):
        FusionMamba(9, 3, upsampling="nearest")
