"""The fast path against the equations as they are written, in float32 and against float64: outputs,
gradients, features, files.
"""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from s3rnet_lite import DFAB, MBFN, SSAWB, S3RNet, complexity
from s3rnet_lite.analysis import probes
from s3rnet_lite.files.atomic import read_tensors, write_tensors
from s3rnet_lite.network import fast
from s3rnet_lite.network.fast import speed_up
from s3rnet_lite.network.mbfn import Branch, ResidualGroup

NETWORKS = {
    "paper, narrow": ("paper", dict(width=12, growth=6, residual_groups=(1, 1, 2, 1), blocks=2)),
    "paper with 1x1 convolutions": (
        "paper",
        dict(width=12, growth=6, residual_groups=(1, 1, 1, 1), kernel_size=1, entry_kernel_size=1),
    ),
    "paper with grouped Q": (
        "paper",
        dict(width=12, growth=6, residual_groups=(1, 1, 1, 1), blocks=1, q_groups=6),
    ),
    "lite": ("lite", {}),
    "tiny": ("tiny", {}),
    "tiny, undamped, nearest, scale 2": ("tiny", dict(damped=False, upsampling="nearest", scale=2)),
    "tiny, attention as in the paper": ("tiny", dict(normalise_attention=False, gate_bias=None)),
}


@pytest.fixture(params=[0, 2**20], ids=["sums", "concatenations"])
def both_sizes(request, monkeypatch):
    """Every image counts as large, or none of these tests' does."""
    monkeypatch.setattr(fast, "FITS_IN_CACHE", request.param)


def randomised(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():  # also those that start at zero
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
        nn.init.normal_(parameter, std=fan_in**-0.5)
    return module


def compare(module: nn.Module, *inputs: torch.Tensor) -> None:
    """The faster module gives the plain one's output, and is as near to that in float64, each to
    1e-4 of the largest number.
    """
    faster = speed_up(module)
    with torch.no_grad():
        found, plain = faster(*inputs), module(*inputs)
        exact = copy.deepcopy(module).double()(*(x.double() for x in inputs))
    if isinstance(plain, torch.Tensor):
        found, plain, exact = [found], [plain], [exact]
    for one, other, true in zip(found, plain, exact, strict=True):
        assert one.shape == other.shape and one.dtype == torch.float32
        largest = float(true.abs().max())
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * largest)
        torch.testing.assert_close(one.double(), true, rtol=0, atol=1e-4 * largest)


@pytest.mark.usefixtures("both_sizes")
@pytest.mark.parametrize("kernel_size", [1, 3])
@pytest.mark.parametrize("damped", [True, False])
def test_blocks_and_groups(kernel_size, damped):
    for batch, height, width in ((1, 9, 7), (3, 1, 5)):
        x = torch.randn(batch, 10, height, width)
        compare(randomised(DFAB(10, 5, kernel_size, damped=damped)), x)
        compare(randomised(ResidualGroup(10, 5, 2, kernel_size, damped=damped)), x)
        compare(randomised(Branch(3, 10, 5, 2, 2, kernel_size, 1, kernel_size, damped)), x[:, :3])


@pytest.mark.parametrize("size", [(86, 43), (32, 16)])
def test_a_block_of_full_width(size):
    compare(randomised(DFAB(*size)), torch.randn(1, size[0], 33, 30))


@given(
    width=st.integers(1, 20),
    growth=st.integers(1, 9),
    batch=st.integers(1, 3),
    height=st.integers(1, 9),
    columns=st.integers(1, 9),
)
def test_blocks_of_any_size(width, growth, batch, height, columns):
    compare(randomised(DFAB(width, growth)), torch.randn(batch, width, height, columns))


@pytest.mark.usefixtures("both_sizes")
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("gate_bias", [None, 2.0])
def test_gates(normalise, gate_bias):
    compare(randomised(SSAWB(8, 2, 4, normalise, gate_bias)), *torch.randn(4, 2, 8, 5, 7))


@pytest.mark.usefixtures("both_sizes")
@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name):
    preset, changes = NETWORKS[name]
    network = randomised(S3RNet.from_preset(preset, 7, 3, **changes))
    for batch, height, width in ((1, 5, 3), (2, 2, 4)):
        compare(
            network,
            torch.randn(batch, 7, height, width),
            torch.randn(batch, 3, height * network.scale, width * network.scale),
        )


def test_groups_are_left_to_the_equations():
    block = DFAB(86, 43, groups=43)
    assert speed_up(block) is block
    compare(randomised(block), torch.randn(1, 86, 4, 4))


@pytest.mark.usefixtures("both_sizes")
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients(name):
    preset, changes = NETWORKS[name]
    network = randomised(S3RNet.from_preset(preset, 7, 3, **changes))
    plain, exact, faster = (
        copy.deepcopy(network),
        copy.deepcopy(network).double(),
        speed_up(network),
    )
    inputs = [torch.randn(2, 7, 3, 4), torch.randn(2, 3, 3 * network.scale, 4 * network.scale)]
    weights = torch.randn(2, 7, 3 * network.scale, 4 * network.scale)
    found, others, true = (
        [x.clone().to(t).requires_grad_() for x in inputs]
        for t in (torch.float32, torch.float32, torch.float64)
    )
    (faster(*found) * weights).sum().backward()
    (plain(*others) * weights).sum().backward()
    (exact(*true) * weights.double()).sum().backward()
    rows = [
        *zip(found, others, true, strict=True),
        *zip(network.parameters(), plain.parameters(), exact.parameters(), strict=True),
    ]
    for one, other, reference in rows:
        largest = float(reference.grad.abs().max())
        torch.testing.assert_close(one.grad, other.grad, rtol=0, atol=1e-4 * largest + 1e-9)
        torch.testing.assert_close(
            one.grad.double(), reference.grad, rtol=0, atol=1e-4 * largest + 1e-9
        )


def test_inputs_stay_as_they_were():
    network = speed_up(S3RNet.from_preset("tiny", 7, 3))
    inputs = torch.randn(1, 7, 4, 4), torch.randn(1, 3, 16, 16)
    before = [x.clone() for x in inputs]
    features = torch.randn(4, 1, 16, 8, 8)
    features_before = features.clone()
    with torch.no_grad():
        network(*inputs)
        network.ssawb(*features)
        network.mbfn.q[2][0](features[0].contiguous(memory_format=torch.channels_last))
    assert all(torch.equal(x, y) for x, y in zip(inputs, before, strict=True))
    assert torch.equal(features, features_before)


def test_the_image_comes_back_channels_first():
    for preset in ("paper", "tiny"):
        network = S3RNet.from_preset(
            preset, 7, 3, width=4, growth=2, residual_groups=(1, 1, 1, 1), blocks=1
        )
        network = speed_up(network)
        with torch.no_grad():
            assert network(torch.randn(2, 7, 4, 4), torch.randn(2, 3, 16, 16)).is_contiguous()


@pytest.mark.usefixtures("both_sizes")
@pytest.mark.parametrize("inference", [torch.no_grad, torch.inference_mode])
def test_both_share_their_weights_whoever_learns(inference):
    network = randomised(S3RNet.from_preset("tiny", 7, 3))
    faster = speed_up(network)
    inputs = torch.randn(1, 7, 3, 4), torch.randn(1, 3, 12, 16)
    with inference():
        before = faster(*inputs)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    faster(*inputs).square().mean().backward()
    optimizer.step()
    with inference():
        after, plain = faster(*inputs), network(*inputs)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, plain, rtol=1e-4, atol=1e-4)
    network.load_state_dict(randomised(S3RNet.from_preset("tiny", 7, 3)).state_dict())
    with inference():
        torch.testing.assert_close(faster(*inputs), network(*inputs), rtol=1e-4, atol=1e-4)


def test_the_model_itself_is_not_changed():
    network = S3RNet.from_preset("tiny", 7, 3)
    faster = speed_up(network)
    assert {type(module) for module in network.modules()}.isdisjoint(fast.FAST_CLASSES.values())
    assert isinstance(faster, S3RNet) and faster.config is not None
    assert list(faster.state_dict()) == list(network.state_dict())
    pairs = zip(network.parameters(), faster.parameters(), strict=True)
    assert all(one is other for one, other in pairs)
    assert speed_up(nn.Conv2d(1, 1, 1)).weight.shape == (1, 1, 1, 1)


def test_twice_is_once():
    faster = speed_up(S3RNet.from_preset("tiny", 7, 3))
    assert speed_up(faster) is faster


def test_whoever_watches_sees_what_the_equations_give():
    network = randomised(S3RNet.from_preset("tiny", 7, 3))
    faster = speed_up(network)
    inputs = torch.randn(1, 7, 3, 4), torch.randn(1, 3, 12, 16)
    watched = [
        "head",
        "ssawb",
        "ssawb.gates",
        "ssawb.attention.to_q",
        "ssawb.attention.to_out",
        "mbfn.q",
        "mbfn.z.2.0",
        "mbfn.z.2.0.convolutions.0",
        "mbfn.z.2.0.activation",
        "mbfn.v.0",
    ]
    for names in [*([name] for name in watched), watched]:
        outputs, seen = [], []
        for model in (faster, network):
            modules = {name: model.get_submodule(name) for name in names}
            with torch.no_grad(), probes.record_all(modules) as found:
                outputs.append(model(*inputs))
            seen.append(found)
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
        for name in names:
            assert len(seen[0][name]) == len(seen[1][name]) > 0, name
            for one, other in zip(seen[0][name], seen[1][name], strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_elsewhere_the_equations_are_computed():
    block = randomised(DFAB(4, 2))
    faster, x = speed_up(block), torch.randn(1, 4, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(faster(x), block(x))
    double = copy.deepcopy(block).double()
    assert torch.equal(copy.deepcopy(faster).double()(x.double()), double(x.double()))
    assert copy.deepcopy(faster).to("meta")(x.to("meta")).shape == x.shape


def test_networks_are_stored_copied_and_counted_as_before(tmp_path):
    network = speed_up(randomised(S3RNet.from_preset("tiny", 7, 3)))
    inputs = torch.randn(1, 7, 4, 4), torch.randn(1, 3, 16, 16)
    counted = complexity.count(network, *inputs)
    with torch.no_grad():
        y = network(*inputs)
        assert complexity.count(network, *inputs) == counted
        for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            torch.testing.assert_close(other(*inputs), y)
        write_tensors(tmp_path / "network.safetensors", network.state_dict(), {})
        stored = S3RNet.from_preset("tiny", 7, 3)
        stored.load_state_dict(read_tensors(tmp_path / "network.safetensors")[0])
        torch.testing.assert_close(stored(*inputs), y)


def test_branches_come_out_in_order():
    arguments = (6, 3, 4, 8, 4, (1, 1, 1, 1), 1, 3, 1, "bilinear")
    compare(randomised(MBFN(*arguments)), torch.randn(2, 6, 4, 5), torch.randn(2, 3, 16, 20))


def test_another_activation_of_the_gates_is_obeyed():
    module = randomised(SSAWB(8, 1, 4, True, None))
    module.gates[1] = nn.Softmax(dim=1)
    compare(module, *torch.randn(4, 1, 8, 6, 5))
