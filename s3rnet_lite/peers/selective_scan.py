"""The selective scan of A. Gu and T. Dao, "Mamba", 2023, in pure PyTorch; FusionMamba's engine in
notebooks/09_peers_table1.ipynb.

Each channel d of a sequence carries N leaky memories h. How much token t forgets and writes (delta,
B) and how it reads (C) depends on the token itself; this is the "selection":

    h_t = a_t h_{t-1} + x_t,    a_t = exp(delta_t A),    x_t = delta_t u_t B_t
    y_t = sum over N of C_t h_t

How it becomes fast, with no tensor of all L x D x N numbers and no division by products of decays
(they underflow to 0):

 - Lanes. Sequences do not see each other, so all take step t together, in one operation on (N, D,
 lanes): stack
   directions and streams. (Chunks of one long sequence could walk side by side too, but then
   everything is walked twice.)
 - Segments. a and x are made for a few steps at a time, so that they stay in the processor's cache.
 - Backward. Only the memory at each segment's start is kept. The segment is walked again, then
 backwards: the gradient g
   of h obeys a recurrence of the same kind, g_t = a_{t+1} g_{t+1} + C_t dy_t.

One operation per token suits a CPU; a GPU would mostly wait for launches, and Mamba has kernels of
its own for it.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

# Mamba's usual count: delta A 1, its exponential (as) 2, times delta u B 2, a h + x 2, C h and the
# sum over N 2. Only forward is counted.
SCAN_FLOPS_PER_STATE = 9
SEGMENT_NUMBERS = 2**16  # of a segment's a; a few such tensors have to fit into the cache
SHORTEST_SEGMENT = 8  # steps


def selective_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """The scan, for G groups (directions, say) with an A each. Computes in float64 if all arguments
    are, else in float32.

    Shape: u and delta (G, batch, L, D), a (G, D, N), b and c (G, batch, L, N) -> y (G, batch, L,
    D), of u's type. With delta >= 0 and a <= 0 no memory grows by itself. Differentiable once.

    Raises:
        ValueError: shapes that do not belong together, or an empty axis.
    """
    if u.ndim != 4 or a.ndim != 3 or 0 in (*u.shape, *a.shape):
        raise ValueError(
            f"u, a: expected non-empty shapes (G, batch, L, D) and (G, D, N), got {tuple(u.shape)} "
            f"and {tuple(a.shape)}"
        )
    states = (*u.shape[:3], a.shape[2])
    shapes = {
        "delta": (delta, tuple(u.shape)),
        "a": (a, (len(u), u.shape[3], a.shape[2])),
        "b": (b, states),
        "c": (c, states),
    }
    for name, (tensor, expected) in shapes.items():
        if tuple(tensor.shape) != expected:
            raise ValueError(
                f"{name}: expected shape {expected} beside u {tuple(u.shape)}, got "
                f"{tuple(tensor.shape)}"
            )
    inputs = (u, delta, a, b, c)
    dtype = torch.float64 if all(x.dtype == torch.float64 for x in inputs) else torch.float32
    return _scan(*(x.to(dtype) for x in inputs))[0].to(u.dtype)


@torch.library.custom_op("s3rnet_lite::selective_scan", mutates_args=())
def _scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """y, and for the way back the memory at the start of each segment, (segments, N, D, lanes)."""
    like, segments = u, _segments(u, a)
    a, u, delta, b, c = _to_lanes(a, u, delta, b, c)
    h, y, starts = torch.zeros_like(a), torch.empty_like(u), []
    for now in segments:
        starts.append(h.clone())
        u_t, delta_t, b_t, c_t = (x[now].contiguous() for x in (u, delta, b, c))
        memory = _walk((delta_t[:, None] * a).exp_(), h, (delta_t * u_t)[:, None], b_t[:, :, None])
        y[now] = (memory[1:] * c_t[:, :, None]).sum(1)
        h = memory[-1]
    return _from_lanes(y, like), torch.stack(starts)


@torch.library.custom_op("s3rnet_lite::selective_scan_backward", mutates_args=())
def _scan_backward(
    dy: Tensor, starts: Tensor, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor
) -> list[Tensor]:
    """The gradients of u, delta, a, b, c. `passed` is a_t g_t, what step t hands to the step before
    it.
    """
    likes, groups, segments = (u, delta, b, c), len(a), _segments(u, a)
    a, dy, u, delta, b, c = _to_lanes(a, dy, u, delta, b, c)
    passed, d_a = torch.zeros_like(a), torch.zeros_like(a)
    d_u, d_delta, d_b, d_c = (torch.empty_like(x) for x in (u, delta, b, c))
    for now, start in reversed(list(zip(segments, starts, strict=True))):
        dy_t, u_t, delta_t, b_t, c_t = (x[now].contiguous() for x in (dy, u, delta, b, c))
        decay, written = (delta_t[:, None] * a).exp_(), delta_t * u_t
        memory = _walk(decay, start, written[:, None], b_t[:, :, None])
        g = _walk_back(decay, passed, dy_t[:, None], c_t[:, :, None])
        d_c[now] = (memory[1:] * dy_t[:, None]).sum(2)
        d_b[now] = (g * written[:, None]).sum(2)
        d_written = (g * b_t[:, :, None]).sum(1)
        g.mul_(decay)
        passed = g[0].clone()
        d_exponent = g.mul_(memory[:-1])  # of delta A
        d_a += (d_exponent * delta_t[:, None]).sum(0)
        d_u[now] = d_written * delta_t
        d_delta[now] = (d_exponent * a).sum(1).addcmul_(d_written, u_t)
    d_u, d_delta, d_b, d_c = (
        _from_lanes(x, like) for x, like in zip((d_u, d_delta, d_b, d_c), likes, strict=True)
    )
    return [
        d_u,
        d_delta,
        d_a.unflatten(2, (groups, -1)).sum(3).permute(2, 1, 0).contiguous(),
        d_b,
        d_c,
    ]


def _segments(u: Tensor, a: Tensor) -> list[slice]:
    steps = max(SHORTEST_SEGMENT, SEGMENT_NUMBERS // (a.numel() * u.shape[1]))
    return [slice(start, start + steps) for start in range(0, u.shape[2], steps)]


def _to_lanes(a: Tensor, *sequences: Tensor) -> list[Tensor]:
    """a (G, D, N) as (N, D, lanes), and views of each (G, batch, L, X) as (L, X, lanes); there are
    G * batch lanes.
    """
    return [
        a.permute(2, 1, 0).repeat_interleave(sequences[0].shape[1], dim=2),
        *(x.flatten(0, 1).permute(1, 2, 0) for x in sequences),
    ]


def _from_lanes(x: Tensor, like: Tensor) -> Tensor:
    return x.permute(2, 0, 1).reshape(like.shape).contiguous()


def _walk(decay: Tensor, start: Tensor, written: Tensor, b: Tensor) -> Tensor:
    """A segment's memory before its first step and after each, (steps + 1, N, D, lanes)."""
    memory = start.new_empty(len(decay) + 1, *start.shape)
    memory[0] = start
    torch.mul(written, b, out=memory[1:])
    for a_t, (before, h) in zip(decay.unbind(), pairwise(memory.unbind()), strict=True):
        h.addcmul_(a_t, before)
    return memory


def _walk_back(decay: Tensor, passed: Tensor, dy: Tensor, c: Tensor) -> Tensor:
    """A segment's g, (steps, N, D, lanes)."""
    g = dy * c
    g[-1] += passed
    for a_later, (later, g_t) in zip(
        reversed(decay.unbind()), pairwise(reversed(g.unbind())), strict=False
    ):
        g_t.addcmul_(a_later, later)
    return g


@_scan.register_fake
def _(u, delta, a, b, c):
    return torch.empty_like(u), u.new_empty(
        len(_segments(u, a)), *a.mT.shape[1:], len(u) * u.shape[1]
    )


@_scan_backward.register_fake
def _(dy, starts, *inputs):
    return [torch.empty_like(x) for x in inputs]


_scan.register_autograd(
    lambda ctx, dy, _: tuple(_scan_backward(dy, *ctx.saved_tensors)),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(output[1], *inputs),
)


@register_flop_formula(torch.ops.s3rnet_lite.selective_scan)
def _flops(u_shape, delta_shape, a_shape, *_, **__) -> int:
    return SCAN_FLOPS_PER_STATE * math.prod(u_shape) * a_shape[2]
