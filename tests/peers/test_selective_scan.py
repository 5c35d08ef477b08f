"""The selective scan against a loop in float64, a second public implementation, closed forms, and
its promise of linear memory.
"""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from s3rnet_lite.peers import selective_scan as module
from s3rnet_lite.peers.selective_scan import SCAN_FLOPS_PER_STATE, selective_scan

NAMES = ("u", "delta", "a", "b", "c")


def inputs(
    groups: int,
    batch: int,
    length: int,
    channels: int,
    states: int,
    dtype=torch.float64,
    delta: float = 0.3,
) -> list[torch.Tensor]:
    shapes = (
        [(groups, batch, length, channels)] * 2
        + [(groups, channels, states)]
        + [(groups, batch, length, states)] * 2
    )
    u, delta_t, a, b, c = (torch.randn(shape, dtype=dtype) for shape in shapes)
    return [x.requires_grad_() for x in (u, delta_t.abs() * delta, -a.exp(), b, c)]


def naive(u, delta, a, b, c):
    """One token, one line of the definition."""
    h, ys = 0, []
    for u_t, delta_t, b_t, c_t in zip(*(x.unbind(2) for x in (u, delta, b, c)), strict=True):
        h = (
            torch.exp(delta_t[..., None] * a[:, None]) * h
            + (delta_t * u_t)[..., None] * b_t[:, :, None]
        )
        ys.append((h * c_t[:, :, None]).sum(-1))
    return torch.stack(ys, dim=2)


def assert_same(scan, reference, arguments, **tolerances):
    """Values, and the gradients of all inputs for a random weighting of the output."""
    y, expected = scan(*arguments), reference(*arguments)
    torch.testing.assert_close(y, expected, **tolerances)
    weights = torch.randn_like(y)
    gradients = zip(
        NAMES,
        torch.autograd.grad(y, arguments, weights),
        torch.autograd.grad(expected, arguments, weights),
        strict=True,
    )
    for name, gradient, expected_gradient in gradients:
        torch.testing.assert_close(
            gradient,
            expected_gradient,
            msg=lambda text, name=name: f"gradient of {name}: {text}",
            **tolerances,
        )


@given(
    groups=st.integers(1, 3),
    batch=st.integers(1, 3),
    length=st.integers(1, 40),
    channels=st.integers(1, 5),
    states=st.integers(1, 4),
)
def test_equals_a_naive_loop_whatever_the_shape(groups, batch, length, channels, states):
    assert_same(selective_scan, naive, inputs(groups, batch, length, channels, states))


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9, 10, 11, 12, 13])
def test_segments_join_at_every_length(monkeypatch, length):
    monkeypatch.setattr(module, "SEGMENT_NUMBERS", 1)
    monkeypatch.setattr(module, "SHORTEST_SEGMENT", 4)
    assert_same(selective_scan, naive, inputs(2, 2, length, 3, 2))


def test_gradcheck(monkeypatch):
    monkeypatch.setattr(module, "SEGMENT_NUMBERS", 1)
    monkeypatch.setattr(module, "SHORTEST_SEGMENT", 3)
    assert torch.autograd.gradcheck(selective_scan, inputs(2, 2, 7, 2, 2))


def test_torch_checks_the_operators_registration():
    """Schema, no mutation, no aliasing, shapes on the meta device."""
    arguments = inputs(2, 2, 20, 3, 2)
    torch.library.opcheck(
        module._scan,
        arguments,
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )
    y, starts = module._scan(*arguments)
    torch.library.opcheck(
        module._scan_backward,
        (y.detach(), starts, *arguments),
        test_utils=("test_schema", "test_faketensor"),
    )


def test_equals_mambapys_parallel_scan():
    pscan = pytest.importorskip("mambapy.pscan").pscan

    def reference(u, delta, a, b, c):
        decay = torch.exp(delta[..., None] * a[:, None, None])
        h = [
            pscan(*pair)
            for pair in zip(decay, (delta * u)[..., None] * b[..., None, :], strict=True)
        ]
        return (torch.stack(h) @ c[..., None]).squeeze(-1)

    assert_same(selective_scan, reference, inputs(2, 3, 100, 4, 3))


def test_float32_is_as_exact_as_float32_can_be():
    exact = inputs(4, 2, 300, 8, 4)
    single = [x.detach().float().requires_grad_() for x in exact]
    torch.testing.assert_close(
        selective_scan(*single).double(), naive(*(x.double() for x in single)), rtol=1e-5, atol=2e-5
    )


def test_memory_without_decay_is_a_running_sum():
    """A = 0 forgets nothing: with B = C = 1 and one state, y is the cumulative sum of delta u."""
    u, delta, a, b, c = (x.detach() for x in inputs(1, 2, 500, 3, 1))
    y = selective_scan(u, delta, torch.zeros_like(a), torch.ones_like(b), torch.ones_like(c))
    torch.testing.assert_close(y, (delta * u).cumsum(2))


@pytest.mark.parametrize(
    ("rate", "delta"), [(-1e4, 10.0), (-1e38, 10.0), (-1e-7, 1e-3), (-0.3, 0.0)]
)
def test_strong_and_weak_decay_stay_finite(rate, delta):
    """In float32 exp(delta A) underflows to 0 in the first two cases: only the present token is
    left, y = delta u (B . C).
    """
    u, delta_t, a, b, c = (x.detach() for x in inputs(2, 2, 1000, 3, 2, torch.float32))
    arguments = [
        x.requires_grad_()
        for x in (u, torch.full_like(delta_t, delta), torch.full_like(a, rate), b, c)
    ]
    y = selective_scan(*arguments)
    if rate < -1:
        torch.testing.assert_close(y, delta * u * (b * c).sum(-1, keepdim=True))
    for tensor in (y, *torch.autograd.grad(y.sum(), arguments)):
        assert torch.isfinite(tensor).all()


def test_lower_precision_inputs_are_scanned_in_float32():
    arguments = [x.detach().bfloat16() for x in inputs(1, 2, 50, 4, 2, torch.float32)]
    y = selective_scan(*arguments)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, selective_scan(*(x.float() for x in arguments)).bfloat16())


def test_views_give_the_same_as_copies():
    arguments = [x.mT.contiguous().mT.detach().requires_grad_() for x in inputs(2, 3, 20, 4, 3)]
    assert_same(
        selective_scan, lambda *copies: selective_scan(*(x.contiguous() for x in copies)), arguments
    )


class Bytes(TorchDispatchMode):
    """Bytes of the largest tensor that any operation returns."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return out


def memory(length: int, states: int = 16) -> tuple[int, int]:
    """(bytes kept for the way back, bytes of the largest tensor there or back) for lanes of 32
    channels.
    """
    arguments = [x.detach() for x in inputs(1, 1, length, 32, states, torch.float32)]
    with Bytes() as seen:
        y, starts = module._scan._init_fn(*arguments)
        module._scan_backward._init_fn(torch.ones_like(y), starts, *arguments)
    return starts.nbytes, seen.largest


def test_memory_is_linear_in_length_and_far_below_one_tensor_of_all_states():
    kept, largest = memory(4096)
    kept_twice, largest_twice = memory(8192)
    assert kept_twice == 2 * kept and largest_twice <= 2 * largest
    all_states = 4 * 4096 * 32 * 16
    assert kept <= all_states / 8 and largest <= all_states / 8


def test_flops_are_counted_without_running():
    shapes = (3, 2, 37, 5, 4)
    arguments = [x.detach().to("meta") for x in inputs(*shapes)]
    with FlopCounterMode(display=False) as counter:
        y = selective_scan(*arguments)
    assert y.is_meta and y.shape == (3, 2, 37, 5)
    assert counter.get_total_flops() == SCAN_FLOPS_PER_STATE * math.prod(shapes)


def test_gradients_on_the_meta_device_have_the_right_shapes():
    arguments = [x.detach().to("meta").requires_grad_() for x in inputs(3, 2, 37, 5, 4)]
    for argument, gradient in zip(
        arguments, torch.autograd.grad(selective_scan(*arguments).sum(), arguments), strict=True
    ):
        assert gradient.is_meta and gradient.shape == argument.shape


@pytest.mark.parametrize("index", range(1, 5))
def test_a_wrong_shape_is_named(index):
    arguments = inputs(2, 2, 5, 3, 4)
    arguments[index] = arguments[index][..., :-1, :] if index != 2 else arguments[index][:, :-1]
    with pytest.raises(ValueError, match=f"^{NAMES[index]}: expected shape"):
        selective_scan(*arguments)


def test_missing_and_empty_axes_are_refused():
    u, delta, a, b, c = inputs(1, 2, 5, 3, 4)
    with pytest.raises(ValueError, match=r"^u, a: expected non-empty shapes \(G, batch, L, D\)"):
        selective_scan(u[0], delta[0], a, b[0], c[0])
    with pytest.raises(ValueError, match="non-empty"):
        selective_scan(u[:, :, :0], delta[:, :, :0], a, b[:, :, :0], c[:, :, :0])
