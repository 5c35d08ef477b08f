"""The same equations with less copying, for float32 on a CPU; used in
notebooks/10_gpu_training.ipynb.

Written as printed, the network keeps a CPU busy between the convolutions: images are rearranged for
every convolution and back, every layer of a dense block copies all features before it, every
activation and residual fills a new tensor. In the classes below

- images are stored channels last, which is how the convolutions of a CPU want them;
- a convolution of concatenated features is a sum of convolutions, W Cat(a, b) = W_a a + W_b b;
- activations, residuals and gates work in place, and features are freed after their last use;
- attention, a 1x1 convolution that the image chooses, is folded into the one that follows.

Each overrides one `forward` of the equations, with the same parameters under the same names, and
returns to it wherever the above does not hold: another device or type, mixed precision, a compiler,
or somebody who watches a layer that it would pass over. With gradients the same code runs,
concatenating what autograd has to keep. `experiments.speed` measures what is gained.
"""

from __future__ import annotations

import copy
from itertools import chain
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

from ..files.checks import check_pair
from .dfab import DFAB
from .mbfn import MBFN, Branch
from .s3rnet import S3RNet
from .ssawb import SSAWB, ChannelAttention

FITS_IN_CACHE = 2**18  # numbers in the first of several images


def speed_up(model: nn.Module) -> nn.Module:
    """A model that shares the parameters and buffers of `model` and computes with fewer copies.

    `model` stays as it is, and comes back itself if nothing in it can be sped up: the peers, say,
    and dense blocks with groups.

    >>> from .s3rnet import S3RNet
    >>> network = S3RNet.from_preset("tiny", 9, 3)
    >>> faster = speed_up(network)
    >>> type(faster).__name__, faster.head[0].weight is network.head[0].weight
    ('FastS3RNet', True)
    """
    if not any(_fast_class(module) for module in model.modules()):
        return model
    faster = sharing_copy(model)
    for module in faster.modules():
        module.__class__ = _fast_class(module) or type(module)
    return faster


def sharing_copy(model: nn.Module) -> nn.Module:
    """Another model of the same parameters and buffers: what is changed of its modules, `model`
    never sees.
    """
    shared: dict[int, torch.Tensor] = {id(x): x for x in chain(model.parameters(), model.buffers())}
    return copy.deepcopy(model, shared)


def _fast_class(module: nn.Module) -> type[nn.Module] | None:
    if isinstance(module, DFAB) and _convolutions(module)[0].groups > 1:
        return None
    return FAST_CLASSES.get(type(module))


def _fits(module: nn.Module, *inputs: torch.Tensor) -> bool:
    """Float32 on a CPU, not traced, and nobody watches the layers that are passed over."""
    return (
        not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and all(x.ndim == 4 for x in inputs)
        and all(
            x.device.type == "cpu" and x.dtype == torch.float32
            for x in (*inputs, *module.parameters())
        )
        and not any(
            m._forward_hooks or m._forward_pre_hooks for m in module.modules() if m is not module
        )
    )


class FastDFAB(DFAB):
    """Each layer concatenates one feature more: to x, or, where x is large, apart from it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not _fits(self, x):
            return super().forward(x)
        images = [x.contiguous(memory_format=torch.channels_last)]
        apart = 0 if _concatenates(images[0]) else 1
        *growing, last = _convolutions(self)
        for convolution in growing:
            new = F.leaky_relu_(convolve(convolution, *images), self.activation.negative_slope)
            images = [*images[:apart], _joined(*images[apart:], new)]
        y = convolve(last, *images)
        return torch.add(
            x, y, alpha=self.residual_scale, out=None if torch.is_grad_enabled() else y
        )


class FastMBFN(MBFN):
    """Q and V stay at low resolution until the four branches meet."""

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if not _fits(self, x_h, x_m):
            return super().forward(x_h, x_m)
        x_h, x_m = (x.contiguous(memory_format=torch.channels_last) for x in (x_h, x_m))
        x_m_down = F.interpolate(
            x_m, scale_factor=1 / self.scale, mode="bicubic", align_corners=False
        )
        q, v = _branch(self.q, x_h), _branch(self.v, x_m_down, x_h)
        k = _branch(self.k, x_m)
        x_h_up = F.interpolate(x_h, scale_factor=self.scale, mode="bilinear", align_corners=False)
        z = _branch(self.z, x_h_up, x_m)
        return self.to_high_resolution(q), k, self.to_high_resolution(v), z


class FastChannelAttention(ChannelAttention):
    """conv(attention V) = (W attention) V + b: one pass over all pixels instead of two."""

    def mix(self, attention: torch.Tensor, f_v: torch.Tensor) -> torch.Tensor:
        if not _fits(self, f_v):
            return super().mix(attention, f_v)
        weight = self.to_out.weight.reshape(-1, self.heads, attention.shape[-1])
        folded = torch.einsum("ohd,bhde->bohe", weight, attention).flatten(2)
        mixed = (folded @ self.to_v(f_v).flatten(2)).unflatten(2, f_v.shape[2:])
        return mixed + cast(torch.Tensor, self.to_out.bias)[:, None, None]


class FastSSAWB(SSAWB):
    """The four gated features are added up in place."""

    def forward(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, z: torch.Tensor
    ) -> torch.Tensor:
        if not _fits(self, q, k, v, z):
            return super().forward(q, k, v, z)
        features = (q, k, v, z + self.attention(q, k, v))
        convolution, activation = self.gates
        gates = activation(convolve(cast(nn.Conv2d, convolution), *features)).split(1, dim=1)
        total = gates[0] * q
        for gate, feature in zip(gates[1:], features[1:], strict=True):
            total.addcmul_(gate, feature)
        return total


class FastS3RNet(S3RNet):
    """The head works in place; the image comes back channels first, as it went in."""

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        if not _fits(self, x_h, x_m):
            return super().forward(x_h, x_m)
        check_pair(x_h, x_m, self.scale, self.hsi_bands, self.msi_bands)
        x = self.ssawb(*self.mbfn(x_h, x_m))
        first, activation, last = self.head
        x = F.leaky_relu_(first(x), cast(nn.LeakyReLU, activation).negative_slope)
        last = cast(nn.Conv2d, last)
        if last.kernel_size != (1, 1):
            return last(x).contiguous()
        # a matrix product reads channels last and writes channels first
        weight = last.weight.flatten(1).expand(len(x), -1, -1)
        return torch.bmm(weight, x.flatten(2)).unflatten(2, x.shape[2:])


FAST_CLASSES = {
    DFAB: FastDFAB,
    MBFN: FastMBFN,
    ChannelAttention: FastChannelAttention,
    SSAWB: FastSSAWB,
    S3RNet: FastS3RNet,
}


def convolve(convolution: nn.Conv2d, *images: torch.Tensor) -> torch.Tensor:
    """`convolution(torch.cat(images, dim=1))` for a stride of 1, images channels last."""
    weights = convolution.weight.split([image.shape[1] for image in images], dim=1)
    if convolution.kernel_size == (1, 1):  # a matrix product over the channels, which lie last
        first, *others = (
            F.linear(image.permute(0, 2, 3, 1), weight.flatten(1))
            for image, weight in zip(images, weights, strict=True)
        )
        total = first if convolution.bias is None else convolution.bias + first
        return sum(others, total).permute(0, 3, 1, 2)
    if len(images) == 1 or _concatenates(images[0]):
        return convolution(_joined(*images))
    total = F.conv2d(images[0], weights[0], convolution.bias, padding=convolution.padding)
    for image, weight in zip(images[1:], weights[1:], strict=True):
        total.add_(F.conv2d(image, weight, padding=convolution.padding))
    return total


def _branch(branch: Branch, *images: torch.Tensor) -> torch.Tensor:
    """`branch(torch.cat(images, dim=1))`."""
    entry, activation, *groups = branch
    slope = cast(nn.LeakyReLU, activation).negative_slope
    x = F.leaky_relu_(convolve(cast(nn.Conv2d, entry), *images), slope)
    del images
    for group in groups:
        x = group(x)
    return x


def _convolutions(block: DFAB) -> list[nn.Conv2d]:
    return cast(list[nn.Conv2d], list(block.convolutions))


def _joined(*images: torch.Tensor) -> torch.Tensor:
    return images[0] if len(images) == 1 else torch.cat(images, dim=1)  # would copy a single one


def _concatenates(image: torch.Tensor) -> bool:
    """Autograd keeps the inputs of a convolution whatever it is made of; and calls cost more than
    copies in the cache.
    """
    return torch.is_grad_enabled() or image.numel() < FITS_IN_CACHE
