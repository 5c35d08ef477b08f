"""The equations of dfab, mbfn, ssawb and s3rnet with less copying, for float32 on a CPU; used in
notebooks/10_gpu_training.ipynb.

Written as printed, the network keeps a CPU busy between the convolutions: images are rearranged for
every convolution and back, every layer of a dense block copies all features before it, every
activation and residual fills a new tensor. Here

- images are stored channels last, which is how the convolutions of a CPU want them;
- a convolution of a concatenation is a sum of convolutions, W Cat(a, b) = W_a a + W_b b, the second
added where the first lies;
- activations, residuals and gates work in place, and features are freed after their last use;
- Q and V stay at low resolution until the four branches meet.

The modules choose this path by themselves (`applies`). Parameters are read at each call; nothing is
stored that could be out of date. With gradients the same code runs, concatenating what autograd has
to keep. `benchmark` measures what is gained.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import torch
import torch.nn.functional as F
from torch import nn

FITS_IN_CACHE = 2**18  # numbers in the first of several images
_enabled = True


@contextmanager
def disabled() -> Iterator[None]:
    """Within the block, every module computes its equations as they are written."""
    global _enabled
    before, _enabled = _enabled, False
    try:
        yield
    finally:
        _enabled = before


def applies(module: nn.Module, *inputs: torch.Tensor) -> bool:
    """Whether `module` may take the fast path: float32 on a CPU, no groups, and nobody watches the
    modules that it passes over.
    """
    return (
        _enabled
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and all(x.ndim == 4 for x in inputs)
        and all(
            x.device.type == "cpu" and x.dtype == torch.float32
            for x in (*inputs, *module.parameters())
        )
        and not any(
            m._forward_hooks or m._forward_pre_hooks for m in module.modules() if m is not module
        )
        and all(c.groups == 1 for c in module.modules() if isinstance(c, nn.Conv2d))
    )


def branches(
    mbfn: nn.Module, x_h: torch.Tensor, x_m: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """`MBFN.forward`: Q and V wait at low resolution for the other two."""
    x_h, x_m = (x.contiguous(memory_format=torch.channels_last) for x in (x_h, x_m))
    x_m_down = F.interpolate(x_m, scale_factor=1 / mbfn.scale, mode="bicubic", align_corners=False)
    q, v = _branch(mbfn.q, x_h), _branch(mbfn.v, x_m_down, x_h)
    k = _branch(mbfn.k, x_m)
    z = _branch(
        mbfn.z,
        F.interpolate(x_h, scale_factor=mbfn.scale, mode="bilinear", align_corners=False),
        x_m,
    )
    return mbfn._to_high_resolution(q), k, mbfn._to_high_resolution(v), z


def _branch(branch: nn.Sequential, *images: torch.Tensor) -> torch.Tensor:
    entry, activation, *groups = branch
    x = F.leaky_relu_(convolve(entry, *images), activation.negative_slope)
    del images
    for group in groups:
        x = group(x)
    return x


def dense_block(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """`DFAB.forward`, one feature more concatenated for each layer: to x, or apart from it."""
    images = [x.contiguous(memory_format=torch.channels_last)]
    apart = 0 if _concatenates(images[0]) else 1
    *growing, last = block.convolutions
    for convolution in growing:
        new = F.leaky_relu_(convolve(convolution, *images), block.activation.negative_slope)
        images = [*images[:apart], _joined(*images[apart:], new)]
    y = convolve(last, *images)
    return torch.add(x, y, alpha=block.residual_scale, out=None if torch.is_grad_enabled() else y)


def fuse(
    ssawb: nn.Module, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, z: torch.Tensor
) -> torch.Tensor:
    """`SSAWB.forward`."""
    features = (q, k, v, z + ssawb.attention(q, k, v))
    convolution, activation = ssawb.gates
    gates = activation(convolve(convolution, *features)).split(1, dim=1)
    total = gates[0] * q
    for gate, feature in zip(gates[1:], features[1:], strict=True):
        total.addcmul_(gate, feature)
    return total


def reconstruct(head: nn.Sequential, x: torch.Tensor) -> torch.Tensor:
    """`S3RNet.head`; the image comes back in the usual layout."""
    first, activation, last = head
    x = F.leaky_relu_(first(x), activation.negative_slope)
    if last.kernel_size == (
        1,
        1,
    ):  # as a matrix product, which reads channels last and writes channels first
        return torch.bmm(last.weight.flatten(1).expand(len(x), -1, -1), x.flatten(2)).unflatten(
            2, x.shape[2:]
        )
    return last(x).contiguous()


def convolve(convolution: nn.Conv2d, *images: torch.Tensor) -> torch.Tensor:
    """`convolution(torch.cat(images, dim=1))` for a stride of 1, images channels last."""
    weights = convolution.weight.split([image.shape[1] for image in images], dim=1)
    if convolution.kernel_size == (1, 1):  # a matrix product over the channels, which lie last
        products = [
            F.linear(image.permute(0, 2, 3, 1), weight.flatten(1))
            for image, weight in zip(images, weights, strict=True)
        ]
        return (
            sum(products) if convolution.bias is None else sum(products, convolution.bias)
        ).permute(0, 3, 1, 2)
    if len(images) == 1 or _concatenates(images[0]):
        return convolution(_joined(*images))
    total = F.conv2d(images[0], weights[0], convolution.bias, padding=convolution.padding)
    for image, weight in zip(images[1:], weights[1:], strict=True):
        add_convolution(total, image, weight, convolution.padding)
    return total


def _joined(*images: torch.Tensor) -> torch.Tensor:
    return (
        images[0] if len(images) == 1 else torch.cat(images, dim=1)
    )  # which would copy a single one


def _concatenates(image: torch.Tensor) -> bool:
    """Autograd keeps the inputs of a convolution whatever it is made of; and calls cost more than
    copies in the cache.
    """
    return torch.is_grad_enabled() or image.numel() < FITS_IN_CACHE


def add_convolution(
    total: torch.Tensor, image: torch.Tensor, weight: torch.Tensor, padding: Sequence[int]
) -> None:
    """total += convolution of image: in one pass where PyTorch's private operation for it works,
    otherwise in two.
    """
    if _adds_in_place():
        _convolution_added(
            total, image, weight.contiguous(memory_format=torch.channels_last), padding
        )
    else:
        total.add_(F.conv2d(image, weight, padding=padding))


def _convolution_added(
    total: torch.Tensor, image: torch.Tensor, weight: torch.Tensor, padding: Sequence[int]
) -> None:
    operation = (
        torch.ops.mkldnn._convolution_pointwise_.binary
    )  # what torch.compile calls; not documented
    operation(total, image, weight, None, padding, [1, 1], [1, 1], 1, "add", 1.0, None, [], None)


@cache
def _adds_in_place() -> bool:
    total, image, weight = torch.ones(3, 1, 1, 1, 1)
    try:
        _convolution_added(total, image, 2 * weight, [0, 0])
    except (AttributeError, RuntimeError, TypeError):
        return False
    return total.item() == 3
