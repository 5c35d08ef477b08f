"""Clear errors for bad input, shared by every room that takes arrays from a user."""

from __future__ import annotations

import torch


def check_cube(
    name: str, x: torch.Tensor, channels: int | None = None, finite: bool = True
) -> torch.Tensor:
    """Return `x` if it is a usable image, else say what is wrong with it.

    Shape: (..., C, H, W) with at least three axes, none of them empty.

    Raises:
        TypeError: `x` is no tensor, or not of a floating-point type.
        ValueError: too few axes, an empty axis, another number of channels than `channels`, NaN or
            infinity (not looked for if `finite` is False, inside a training step, say, where the
            loss tells, nor in compiled networks).
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"{name}: expected a torch.Tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(
            f"{name}: expected floating-point values in [0, 1], got dtype {x.dtype}; convert and "
            "scale first"
        )
    if x.ndim < 3:
        raise ValueError(f"{name}: expected shape (..., C, H, W), got {tuple(x.shape)}")
    if x.numel() == 0:
        raise ValueError(f"{name}: expected a non-empty image, got shape {tuple(x.shape)}")
    if channels is not None and x.shape[-3] != channels:
        raise ValueError(
            f"{name}: expected {channels} bands on axis -3, got {x.shape[-3]} (shape "
            f"{tuple(x.shape)})"
        )
    if not finite or x.is_meta or torch.compiler.is_compiling():
        return x
    # one NaN or infinity makes the sum so too: a fast test that leaves the slow one, three passes,
    # for doubtful cases
    if not bool(torch.isfinite(x.sum())) and not bool(torch.isfinite(x).all()):
        raise ValueError(
            f"{name}: expected finite values, got {int((~torch.isfinite(x)).sum())} NaN or "
            "infinite ones"
        )
    return x


def check_pair(
    x_h: torch.Tensor, x_m: torch.Tensor, scale: int, hsi_bands: int | None, msi_bands: int | None
) -> None:
    """Check that an LR-HSI (..., C, h, w) and an HR-MSI (..., M, h*scale, w*scale) belong together.

    Raises:
        TypeError, ValueError: as `check_cube`, or the two differ in batch size or in footprint.
    """
    check_cube("x_h", x_h, hsi_bands)
    check_cube("x_m", x_m, msi_bands)
    if x_h.shape[:-3] != x_m.shape[:-3]:
        raise ValueError(
            f"x_h and x_m: expected equal batch sizes, got {tuple(x_h.shape[:-3])} and "
            f"{tuple(x_m.shape[:-3])}"
        )
    expected = (x_h.shape[-2] * scale, x_h.shape[-1] * scale)
    if tuple(x_m.shape[-2:]) != expected:
        raise ValueError(
            f"x_m: expected height and width {expected}, {scale} times those of x_h "
            f"{tuple(x_h.shape[-2:])}, got {tuple(x_m.shape[-2:])}"
        )
