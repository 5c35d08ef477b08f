"""S3RNet: published sizes and work, presets on any size and scale, batches, precision, gradients
and clear errors.
"""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from s3rnet_lite import S3RNet, complexity
from s3rnet_lite.analysis.probes import record
from s3rnet_lite.network.s3rnet import S3RNetConfig

SMALL_PRESETS = ("lite", "tiny")


def paper(msi_bands: int = 4, **changes) -> S3RNet:
    with torch.device("meta"):
        return S3RNet.from_preset("paper", 172, msi_bands, **changes)


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def miniature(**changes) -> S3RNet:
    """The paper's network with every number small."""
    small = dict(width=8, growth=4, residual_groups=(1, 1, 2, 2), blocks=1, heads=1)
    return S3RNet(7, 3, S3RNetConfig(**{**small, **changes})).eval()


def pair(
    batch: int = 1, height: int = 4, width: int = 5, scale: int = 4
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.rand(batch, 7, height, width), torch.rand(batch, 3, scale * height, scale * width)


@pytest.mark.parametrize(("msi_bands", "total"), [(4, 26_807_686), (6, 26_812_330)])
def test_the_paper_preset_has_table_1s_size(msi_bands, total):
    assert parameters(paper(msi_bands)) == total


@pytest.mark.parametrize(
    ("msi_bands", "branches"),
    [
        (4, (5_328_302, 5_198_270, 7_928_942, 7_928_942)),
        (6, (5_328_302, 5_199_818, 7_930_490, 7_930_490)),
    ],
)
def test_every_part_of_the_paper_preset_has_its_size(msi_bands, branches):
    network = paper(msi_bands)
    assert (
        tuple(
            parameters(part)
            for part in (network.mbfn.q, network.mbfn.k, network.mbfn.v, network.mbfn.z)
        )
        == branches
    )
    assert parameters(network.ssawb) == 23_674
    assert [parameters(layer) for layer in network.head] == [133_300, 0, 266_256]


@pytest.mark.parametrize(("msi_bands", "total"), [(4, 3_732_166), (6, 3_736_810)])
def test_equation_2_as_printed_gives_a_network_a_seventh_the_size(msi_bands, total):
    assert parameters(paper(msi_bands, kernel_size=1)) == total


def test_groups_in_q_as_the_text_has_it_leave_too_few_parameters():
    assert parameters(paper(q_groups=43)) == 21_736_438


@pytest.mark.parametrize(
    ("preset", "width", "growth", "heads", "hidden", "entry"),
    [("lite", 24, 12, 2, 48, 1), ("tiny", 16, 8, 1, 16, 3)],
)
def test_small_presets_have_the_size_of_one_block_a_branch_and_a_thin_head(
    preset, width, growth, heads, hidden, entry
):
    dense = (
        sum((width + j * growth) * growth * 9 + growth for j in range(4))
        + (width + 4 * growth) * width * 9
        + width
    )
    entries = sum(bands * width * entry**2 + width for bands in (172, 4, 176, 176))
    attention = (
        3 * (width * 16 * heads + 16 * heads) + 16 * heads * width + width + heads
    )  # a temperature each
    gates, head = 4 * width * 4 + 4, (width * hidden * 9 + hidden) + hidden * 172
    assert (
        parameters(S3RNet.from_preset(preset, 172, 4))
        == entries + 4 * dense + attention + gates + head
    )


def test_the_paper_preset_does_table_1s_work():
    """Table I counts the convolutions; the two products of the attention come on top."""
    found = complexity.count(paper(), torch.empty(1, 172, 64, 64), torch.empty(1, 4, 256, 256))
    products = 2 * 4 * 16 * 16 * 256**2
    assert (found.macs - products) / 1e9 == pytest.approx(941.77, abs=0.015)


def test_the_work_follows_from_weights_times_pixels_plus_the_attention():
    network = paper()
    low, high = 64**2, 256**2

    def weights(module: torch.nn.Module) -> int:
        return sum(p.numel() for p in module.parameters() if p.ndim == 4)

    convolutions = (weights(network.mbfn.q) + weights(network.mbfn.v)) * low
    convolutions += (
        weights(network.mbfn.k)
        + weights(network.mbfn.z)
        + weights(network.ssawb)
        + weights(network.head)
    ) * high
    products = 2 * 4 * 16 * 16 * high  # Q K^T and A V of each head
    found = complexity.count(network, torch.empty(1, 172, 64, 64), torch.empty(1, 4, 256, 256))
    assert found.macs == convolutions + products


def test_the_paper_preset_maps_64_to_256_pixels_and_172_bands():
    assert paper()(
        torch.empty(2, 172, 64, 64, device="meta"), torch.empty(2, 4, 256, 256, device="meta")
    ).shape == (2, 172, 256, 256)


def test_the_network_is_its_parts_in_order_with_no_skip():
    network = miniature()
    x_h, x_m = pair()
    with record(network.ssawb) as fused, torch.no_grad():
        y_hat = network(x_h, x_m)
    first, _, last = network.head
    hidden = F.conv2d(fused[0], first.weight, first.bias, padding=1)
    expected = F.conv2d(torch.where(hidden > 0, hidden, 0.2 * hidden), last.weight, padding=1)
    torch.testing.assert_close(y_hat, expected)
    assert last.bias is None


@given(
    preset=st.sampled_from(SMALL_PRESETS),
    bands=st.tuples(st.integers(1, 9), st.integers(1, 6)),
    scale=st.sampled_from([2, 3, 4]),
    size=st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 6)),
)
def test_small_presets_take_any_bands_sizes_and_scale(preset, bands, scale, size):
    (hsi_bands, msi_bands), (batch, height, width) = bands, size
    network = S3RNet.from_preset(preset, hsi_bands, msi_bands, scale=scale)
    x_h = torch.rand(batch, hsi_bands, height, width)
    x_m = torch.rand(batch, msi_bands, scale * height, scale * width)
    with torch.no_grad():
        y_hat = network(x_h, x_m)
    assert y_hat.shape == (batch, hsi_bands, scale * height, scale * width)
    assert bool(y_hat.isfinite().all())


@pytest.mark.parametrize(
    "build",
    [miniature, lambda: S3RNet.from_preset("lite", 7, 3), lambda: S3RNet.from_preset("tiny", 7, 3)],
)
class TestEveryPreset:
    def test_a_batch_of_two_equals_two_of_one(self, build):
        network = build().eval()
        x_h, x_m = pair(batch=2)
        with torch.no_grad():
            alone = torch.cat([network(x_h[:1], x_m[:1]), network(x_h[1:], x_m[1:])])
            torch.testing.assert_close(network(x_h, x_m), alone, atol=1e-5, rtol=1e-5)

    def test_float32_is_close_to_float64(self, build):
        network = build().eval()
        x_h, x_m = pair()
        with torch.no_grad():
            single = network(x_h, x_m)
            double = network.double()(x_h.double(), x_m.double())
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, atol=1e-5, rtol=1e-4)

    def test_every_parameter_receives_a_gradient(self, build):
        network = build()
        network(*pair(batch=2)).square().mean().backward()
        without = [
            name
            for name, p in network.named_parameters()
            if p.grad is None or not bool(p.grad.abs().max() > 0)
        ]
        assert without == []

    def test_both_images_matter(self, build):
        network = build().eval()
        x_h, x_m = (x.requires_grad_() for x in pair())
        network(x_h, x_m).sum().backward()
        assert bool((x_h.grad.abs().amax((0, 2, 3)) > 0).all())
        assert bool((x_m.grad.abs().amax((0, 2, 3)) > 0).all())


def test_a_preset_can_be_changed_by_name():
    assert S3RNet.from_preset("tiny", 7, 3, scale=2).scale == 2
    with pytest.raises(TypeError, match="colour"):
        S3RNet.from_preset("tiny", 7, 3, colour="red")


def test_an_unknown_preset_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match=r"paper.*lite.*tiny.*got 'huge'"):
        S3RNet.from_preset("huge", 7, 3)


@pytest.mark.parametrize(
    ("x_h", "x_m", "error", "message"),
    [
        (
            torch.rand(1, 7, 4, 4),
            torch.rand(1, 3, 16, 12),
            ValueError,
            r"x_m: expected height and width \(16, 16\).*got \(16, 12\)",
        ),
        (torch.rand(1, 7, 4, 4), torch.rand(1, 3, 8, 8), ValueError, "4 times those of x_h"),
        (
            torch.rand(1, 6, 4, 4),
            torch.rand(1, 3, 16, 16),
            ValueError,
            "x_h: expected 7 bands on axis -3, got 6",
        ),
        (
            torch.rand(1, 7, 4, 4),
            torch.rand(1, 4, 16, 16),
            ValueError,
            "x_m: expected 3 bands on axis -3, got 4",
        ),
        (torch.rand(2, 7, 4, 4), torch.rand(1, 3, 16, 16), ValueError, "equal batch sizes"),
        (
            torch.rand(0, 7, 4, 4),
            torch.rand(0, 3, 16, 16),
            ValueError,
            "x_h: expected a non-empty image",
        ),
        (
            torch.full((1, 7, 4, 4), torch.nan),
            torch.rand(1, 3, 16, 16),
            ValueError,
            "x_h: expected finite",
        ),
        (
            torch.ones(1, 7, 4, 4, dtype=torch.uint8),
            torch.rand(1, 3, 16, 16),
            TypeError,
            "x_h: expected floating-point",
        ),
        (
            torch.rand(1, 7, 4, 4),
            torch.rand(1, 3, 16, 16).numpy(),
            TypeError,
            "x_m: expected a torch.Tensor",
        ),
    ],
)
def test_pairs_that_do_not_belong_together_are_refused(x_h, x_m, error, message):
    with pytest.raises(error, match=message):
        S3RNet.from_preset("tiny", 7, 3)(x_h, x_m)


def test_record_keeps_detached_outputs_and_stops_with_its_block():
    layer = torch.nn.Linear(2, 2)
    with record(layer) as outputs:
        inside = [layer(torch.rand(1, 2)) for _ in range(2)]
    layer(torch.rand(1, 2))
    assert len(outputs) == 2
    assert torch.equal(outputs[1], inside[1])
    assert not outputs[0].requires_grad


def test_entries_of_one_pixel_see_one_pixel():
    """With 1x1 entries nine times fewer weights look at the HSI bands, and nothing else changes."""
    wide, narrow = (S3RNet.from_preset("tiny", 20, 4, entry_kernel_size=size) for size in (3, 1))
    for name in "qkvz":
        entry, small = getattr(wide.mbfn, name)[0], getattr(narrow.mbfn, name)[0]
        assert entry.weight.numel() == 9 * small.weight.numel()
        assert small.kernel_size == (1, 1)
    assert narrow(torch.rand(1, 20, 3, 5), torch.rand(1, 4, 12, 20)).shape == (1, 20, 12, 20)
