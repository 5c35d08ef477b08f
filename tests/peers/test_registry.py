"""What all ten peers have to do; what is special to one stands in test_peers_<name>.py."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from s3rnet_lite import complexity, peers, training
from s3rnet_lite.peers import registry
from s3rnet_lite.peers.parts import upsample
from s3rnet_lite.training.fusion import FusionModel

pytestmark = pytest.mark.slow  # not part of `make check`

# Parameters of the described designs for 172 HSI bands with 4 and 6 MSI bands, counted
# independently of this code.
PARAMETERS = {
    "pzres_net": (15_593_101, 15_598_519),
    "mssjfl": (16_335_277, 16_336_735),
    "dual_unet": (2_968_610, 2_970_914),
    "dhif_net": (57_037_700, 57_044_470),
    "fusformer": (179_116, 179_212),
    "hypertransformer": (123_881_160, 123_887_432),
    "hyperrefiner": (7_276_248, 7_278_552),
    "u2net": (6_539_212, 6_540_364),
    "qrcode": (41_907_550, 41_909_098),
    "fusion_mamba": (21_674_925, 21_678_021),
}
every_peer = pytest.mark.parametrize("name", peers.NAMES)


def build_lite(name, hsi_bands=11, msi_bands=3, **changes):
    torch.manual_seed(0)
    return peers.build(name, "lite", hsi_bands, msi_bands, **changes)


def pair(batch=2, hsi_bands=11, msi_bands=3, height=8, width=6, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    x_h = torch.randn(batch, hsi_bands, height, width, generator=generator, dtype=torch.float64)
    x_m = torch.randn(
        batch, msi_bands, 4 * height, 4 * width, generator=generator, dtype=torch.float64
    )
    return x_h.to(dtype), x_m.to(dtype)


def test_the_ten_of_table1():
    assert tuple(PARAMETERS) == peers.NAMES


@every_peer
@pytest.mark.parametrize(("msi_bands", "column"), [(4, 0), (6, 1)])
def test_parameters_of_the_described_design(name, msi_bands, column):
    with torch.device("meta"):
        network = peers.build(name, "paper", 172, msi_bands)
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name][column]


@every_peer
def test_lite_is_a_tenth_to_one_million_parameters(name):
    assert 1e5 <= sum(p.numel() for p in peers.build(name, "lite", 172, 6).parameters()) <= 1e6


@every_peer
@given(
    st.integers(1, 2), st.integers(4, 30), st.integers(1, 7), st.integers(2, 11), st.integers(2, 11)
)
@settings(max_examples=6)
def test_any_bands_and_any_size(name, batch, hsi_bands, msi_bands, height, width):
    network = build_lite(name, hsi_bands, msi_bands).eval()
    x_h, x_m = (x.requires_grad_() for x in pair(batch, hsi_bands, msi_bands, height, width))
    y_hat = network(x_h, x_m)
    assert y_hat.shape == (batch, hsi_bands, 4 * height, 4 * width)
    y_hat.square().mean().backward()
    for x in (x_h, x_m):
        assert torch.isfinite(x.grad).all() and x.grad.abs().sum() > 0


@every_peer
def test_images_of_a_batch_do_not_meet(name):
    network = build_lite(name).eval()
    x_h, x_m = pair()
    with torch.no_grad():
        together, alone = (
            network(x_h, x_m),
            torch.cat([network(h[None], m[None]) for h, m in zip(x_h, x_m, strict=True)]),
        )
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-4 * float(alone.abs().max()))


@every_peer
def test_single_precision_is_precise_enough(name):
    network = build_lite(name).eval()
    with torch.no_grad():
        exact = network.double()(*pair(dtype=torch.float64))
        found = network.float()(*pair())
    assert found.dtype == torch.float32 and exact.dtype == torch.float64
    torch.testing.assert_close(
        found.double(), exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max())
    )


@every_peer
@pytest.mark.parametrize("global_skip", [True, False])
def test_no_parameter_is_dead(name, global_skip):
    if name not in peers.WITH_GLOBAL_SKIP and not global_skip:
        pytest.skip("has no skip of its own")
    network = build_lite(name, **({"global_skip": False} if not global_skip else {}))
    network(*pair(height=8, width=8)).square().mean().backward()
    dead = [
        parameter_name
        for parameter_name, p in network.named_parameters()
        if p.grad is None or not p.grad.any()
    ]
    assert not dead


@pytest.mark.parametrize("name", peers.WITH_GLOBAL_SKIP)
def test_without_global_skip_the_upsampled_lr_hsi_is_missing(name):
    x_h, x_m = pair()
    outputs = []
    for global_skip in (True, False):
        with torch.no_grad():
            outputs.append(build_lite(name, global_skip=global_skip).eval()(x_h, x_m))
    skip = outputs[0] - outputs[1]
    assert (
        min(float((skip - upsample(x_h, 4, mode)).abs().max()) for mode in ("bilinear", "bicubic"))
        < 1e-4
    )


@every_peer
def test_a_seed_decides_everything(name):
    def step():
        network = build_lite(name)
        loss = network(*pair()).square().mean()
        loss.backward()
        return [loss.detach(), *(p.grad for p in network.parameters())]

    assert all(torch.equal(a, b) for a, b in zip(step(), step(), strict=True))


@every_peer
def test_inputs_stay_as_they_were(name):
    x_h, x_m = pair()
    before = x_h.clone(), x_m.clone()
    build_lite(name)(x_h, x_m)
    assert torch.equal(x_h, before[0]) and torch.equal(x_m, before[1])


@every_peer
def test_inputs_that_do_not_belong_together_are_refused(name):
    network, (x_h, x_m) = build_lite(name), pair()
    with pytest.raises(ValueError, match="x_m: expected height and width"):
        network(x_h, x_m[..., :-4])
    with pytest.raises(ValueError, match="x_h: expected 11 bands"):
        network(x_h[:, 1:], x_m)


@every_peer
def test_stored_and_loaded(name, tmp_path, small_train, small_val, degrade6):
    changes = {"global_skip": False} if name in peers.WITH_GLOBAL_SKIP else {}
    network = peers.build(name, "lite", 170, 6, **changes)
    model = FusionModel(network, degrade6, "band", "injection", small_train.cube).eval()
    training.save_checkpoint(tmp_path / "model.safetensors", model, "lite", {}, changes)
    loaded = training.load_checkpoint(tmp_path / "model.safetensors")
    x_h, x_m = (x[None] for x in degrade6(small_val.cube))
    with torch.no_grad():
        torch.testing.assert_close(loaded(x_h, x_m), model(x_h, x_m))
    assert (tmp_path / "model.safetensors").stat().st_size <= 3 * 2**20


@every_peer
def test_lite_learns(name):
    """Ten steps on one batch bring the error down."""
    network = build_lite(name)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    x_h, x_m = pair()
    y = upsample(x_h, 4, "bilinear") + x_m.mean(1, keepdim=True)
    losses = []
    for _ in range(10):
        losses.append((network(x_h, x_m) - y).abs().mean())
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]


@every_peer
def test_full_size_is_counted_with_memory(name):
    with torch.device("meta"):
        network = peers.build(name, "paper", 172, 4)
        x_h, x_m = torch.empty(1, 172, 64, 64), torch.empty(1, 4, 256, 256)
    assert complexity.count(network, x_h, x_m).macs > 1e9
    assert (
        complexity.peak_memory(network, x_h, x_m) > 172 * 256 * 256 * 4
    )  # the output is one of the tensors


def test_unknown_names_are_named():
    with pytest.raises(ValueError, match="name: expected one of"):
        peers.build("unet")
    with pytest.raises(ValueError, match="preset: expected one of"):
        peers.build("mssjfl", "tiny")
    with pytest.raises(ValueError, match="name: expected one of"):
        registry.build("unet", "lite", 170, 4)
