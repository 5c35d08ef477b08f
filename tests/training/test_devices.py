"""Many processes, less memory and other precisions: the same step."""

import functools
import json
import subprocess
from dataclasses import replace

import pytest
import torch
from small_training import ONE_THREAD, QUICK, first_gradient, relative, tiny, train_command

from s3rnet_lite import S3RNet, complexity, peers
from s3rnet_lite.files.atomic import read_tensors
from s3rnet_lite.training import CONFIGS, fit
from s3rnet_lite.training.devices import changed_forward

pytestmark = pytest.mark.slow  # not part of `make check`


def test_two_processes_train_as_one_with_the_same_batch(tmp_path, indian_pines_split):
    """Gradients agree to 1e-5, relative, with accumulation too; and the losses, the validation and
    the log are those of one.
    """
    train, val, _ = indian_pines_split
    two = tmp_path / "two.safetensors"
    command = [
        *train_command(two, tmp_path / "model.safetensors", 1),
        "--devices",
        "2",
        "--accumulate",
        "2",
        "--log",
        str(tmp_path / "log"),
    ]
    process = subprocess.Popen(command, env=ONE_THREAD, stderr=subprocess.PIPE, text=True)
    one = tmp_path / "one.safetensors"
    config = replace(CONFIGS["tiny"], steps=1, batch_size=4, crop=16, snr_db=(20.0, 40.0))
    history = fit(tiny(), train, val, config, state_file=one, progress=False)
    assert process.wait(timeout=100) == 0, process.stderr.read()
    assert relative(first_gradient(two), first_gradient(one)) < 1e-5
    run = json.loads(read_tensors(two)[1]["run"])
    assert run["loss"] == pytest.approx(history.loss, rel=1e-5)
    assert len(run["validation"]) == 1
    psnr = "psnr_pooled_scene_peak"
    assert run["validation"][0][psnr] == pytest.approx(history.validation[0][psnr], abs=1e-4)
    assert len(list((tmp_path / "log").iterdir())) == 1
    assert (tmp_path / "model.safetensors").exists()


@pytest.mark.parametrize(("devices", "accumulate"), [(1, 3), (2, 4), (3, 1)])
def test_a_batch_that_cannot_be_shared_out_is_refused(devices, accumulate, small_train, small_val):
    with pytest.raises(
        ValueError, match=r"batch_size: expected a multiple of devices \* num_nodes \* accumulate"
    ):
        fit(
            tiny(),
            small_train,
            small_val,
            replace(QUICK, accumulate=accumulate),
            devices=devices,
            progress=False,
        )


def gradients(network: torch.nn.Module, *inputs: torch.Tensor, **changes) -> torch.Tensor:
    network.zero_grad()
    with changed_forward(network, **changes):
        network(*inputs).square().mean().backward()
    return torch.cat([p.grad.flatten() for p in network.parameters()])


@pytest.fixture
def eager_backend(monkeypatch):
    """Trace as ever, in one piece, but do not generate code, which takes minutes on a processor."""
    monkeypatch.setattr(
        torch, "compile", functools.partial(torch.compile, backend="aot_eager", fullgraph=True)
    )


def test_checkpoints_change_no_gradient_and_neither_they_nor_compilation_change_names():
    network, inputs = tiny(), (torch.rand(2, 170, 4, 4), torch.rand(2, 6, 16, 16))
    names, expected = list(network.state_dict()), gradients(network, *inputs)
    assert relative(gradients(network, *inputs, checkpoint_activations=True), expected) < 1e-5
    with changed_forward(network, checkpoint_activations=True, compiled=True):
        assert list(network.state_dict()) == names
    assert torch.equal(gradients(network, *inputs), expected)  # all is as before


@pytest.mark.parametrize(
    "changes",
    [{"accumulate": 2}, {"accumulate": 4}, {"checkpoint_activations": True, "compile": True}],
    ids=["2", "4", "both"],
)
def test_how_a_step_is_computed_does_not_change_it(
    changes, small_train, small_val, tmp_path, eager_backend
):
    """A batch in parts, checkpoints and compilation give the gradient of the whole batch to 1e-5; a
    run may go on with any of them.
    """
    config, states = (
        replace(QUICK, gradient_clip=None),
        [tmp_path / "plain.safetensors", tmp_path / "changed.safetensors"],
    )
    for state, changed in zip(states, ({}, changes), strict=True):
        fit(
            tiny(),
            small_train,
            small_val,
            replace(config, **changed),
            state_file=state,
            minutes=1e-9,
            progress=False,
        )
    assert relative(first_gradient(states[1]), first_gradient(states[0])) < 1e-5
    histories = [
        fit(tiny(), small_train, small_val, config, state_file=state, progress=False)
        for state in states
    ]
    assert histories[1].loss == pytest.approx(histories[0].loss, rel=1e-4)
    assert len(histories[1].validation[-1]["gate_means"]) == 4


def test_checkpoints_keep_a_tenth_of_the_activations_of_the_papers_network():
    with torch.device("meta"):
        network = S3RNet.from_preset("paper", 172, 4)
        inputs = torch.empty(1, 172, 32, 32), torch.empty(1, 4, 128, 128)

    def kept(checkpoint_activations: bool) -> int:
        sizes = {}

        def pack(tensor):
            sizes[tensor.untyped_storage()._cdata] = tensor  # held, so that no two have one address
            return tensor

        parameters = {p.untyped_storage()._cdata for p in network.parameters()}
        with (
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
            changed_forward(network, checkpoint_activations),
        ):
            network(*inputs)
        return sum(
            t.untyped_storage().nbytes() for key, t in sizes.items() if key not in parameters
        )

    plain = kept(False)
    assert plain == pytest.approx(
        complexity.peak_memory(network, *inputs, keep_for_backward=True), rel=0.1
    )
    assert kept(True) < 0.1 * plain
    # Why the network itself is not split over devices: weights, gradients and Adam's moments are a
    # fraction of one crop's activations.
    assert 16 * sum(p.numel() for p in network.parameters()) < 0.25 * plain


def test_only_networks_with_residual_groups_can_checkpoint_them():
    network = peers.build("dual_unet", preset="lite", hsi_bands=170, msi_bands=6)
    expected = pytest.raises(
        ValueError,
        match="checkpoint_activations: expected a network with residual groups, got DualUNet",
    )
    with expected, changed_forward(network, checkpoint_activations=True):
        pass
