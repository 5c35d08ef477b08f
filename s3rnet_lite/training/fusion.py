"""Everything around a network that depends on the data, one wrapper for ours and every peer; built
in notebooks/06_training.ipynb.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from .. import baselines
from ..files.checks import check_pair
from ..sensing.degradation import Degradation
from .denoising import WienerDenoiser
from .details import DetailRegression
from .guard import judge

SCALINGS = ("range", "band", "none")
# of what a network adds to "details" on a scene it has not seen, chosen with `details.PAIR_SHARE`
UNSEEN_SHARE = 0.5
LEAST_SPREAD = 1e-6  # of a band in [0, 1] data
SKIPS = ("none", "bilinear", "injection", "details")


@dataclass(frozen=True)
class Known:
    """What a pair at hand says: the weights of its `DetailRegression`, the model's share of the
    image, the closed form that has the rest, and the LR-HSI whose spectra that goes by.
    """

    weights: torch.Tensor | None  # None of other skips
    share: float
    rival: str
    lr_hsi: torch.Tensor


class FusionModel(nn.Module):
    """Standardise, network, unstandardise, optional skip: a network made to work on [0, 1] data.

    scaling "none" leaves [0, 1] as it is; "range" takes it to [-1, 1] and back, as the paper does;
    "band" gives every band of the inputs mean 0 and standard deviation 1, and the network's output
    the mean and spread of what it has to explain.

    skip "none" leaves the whole image to the network (the paper); "bilinear" adds the upsampled
    LR-HSI; "injection" lets the network correct a regression of the HSI from the HR-MSI, fitted on
    the training region, and then makes this guess consistent with the LR-HSI:
    `guess + upsample(x_h - spatial(guess))`, two passes. So the network decides the detail that the
    LR-HSI cannot show, and never the colour that it does.

    skip "details" is the same with a `DetailRegression` in place of the regression. In evaluation
    mode, this also learns from the pair at hand, the network's correction counts half, since much
    of it is learnt by heart from few pixels, and the image is blended with a closed form
    that no training can mislead (`guard.judge`).

    denoise lets a `WienerDenoiser` take white noise out of the LR-HSI before anything else.

    Shape: x_h (B, C, h, w), x_m (B, M, h*r, w*r) in [0, 1] -> (B, C, h*r, w*r), not clipped.

    Args:
        network: maps (x_h, x_m) to (B, C, h*r, w*r).
        degrade: relates the two inputs; gives scale, band numbers and, for "injection", the PSF.
        scaling, skip, denoise: see above.
        y: training HR-HSI (C, H, W) or a list of them, from which the statistics are taken; None
            leaves placeholders for a checkpoint to fill.
        x_m: the HR-MSI (M, H, W) measured with each training HR-HSI; None computes them with the
            SRF.

    Raises:
        ValueError: an unknown scaling or skip; from `forward`, inputs that do not belong together.
    """

    def __init__(
        self,
        network: nn.Module,
        degrade: Degradation,
        scaling: str,
        skip: str,
        y=None,
        denoise: bool = False,
        x_m: list[torch.Tensor] | None = None,
    ):
        super().__init__()
        if scaling not in SCALINGS:
            raise ValueError(f"scaling: expected one of {SCALINGS}, got {scaling!r}")
        if skip not in SKIPS:
            raise ValueError(f"skip: expected one of {SKIPS}, got {skip!r}")
        self.network, self.degrade, self.scaling, self.skip = network, degrade, scaling, skip
        msi_bands, hsi_bands = degrade.srf.shape
        for name, length in (("hsi", hsi_bands), ("msi", msi_bands), ("output", hsi_bands)):
            mean, spread = (0.0, 1.0) if scaling == "none" else (0.5, 0.5)
            self.register_buffer(f"{name}_mean", torch.full((length, 1, 1), mean))
            self.register_buffer(f"{name}_spread", torch.full((length, 1, 1), spread))
        if skip == "injection":
            self.register_buffer("regression", torch.zeros(hsi_bands, msi_bands + 1))
        references = [y] if isinstance(y, torch.Tensor) else y
        if references is not None and x_m is None:
            x_m = [degrade.spectral(y) for y in references]
        if skip == "details":
            self.details = DetailRegression(degrade, references, x_m)
        self.denoiser = WienerDenoiser(degrade, references) if denoise else None
        if references is not None:
            self._fit(references, x_m)

    def forward(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        msi_bands, hsi_bands = self.degrade.srf.shape
        check_pair(x_h, x_m, self.degrade.scale, hsi_bands, msi_bands)
        if self.denoiser is None:
            return self.fuse_clean(x_h, x_m)
        return self.fuse_clean(self.denoiser(x_h, x_m), x_m, measured=x_h)

    def fuse_clean(
        self,
        x_h: torch.Tensor,
        x_m: torch.Tensor,
        known: Known | None = None,
        measured: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """`forward` without the denoiser.

        Args:
            known: what `look_at` found; guards any model (one with the skip "details" guards
                itself), and is that of the whole pair where this is a tile.
            measured: the LR-HSI before the denoiser, if there is one.
        """
        said = self.network(*self.standardise(x_h, x_m))
        output = torch.addcmul(self.output_mean, said, self.output_spread)
        if known is None and (self.skip != "details" or self.training):
            return self._finish(output, x_h, x_m)
        measured = x_h if measured is None else measured
        images = zip(output, x_h, x_m, measured, strict=True)
        return torch.stack(
            [
                self._finish_guarded(out, clean, m, h, known or self.look_at(h, m))
                for out, clean, m, h in images
            ]
        )

    def look_at(self, x_h: torch.Tensor, x_m: torch.Tensor) -> Known:
        """What one pair as measured, (C, h, w) and (M, h*r, w*r), says beyond the training
        scenes.
        """

        def as_trained(x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
            clean, x_m = self._denoised(x_h, x_m)[None], x_m[None]
            said = self.network(*self.standardise(clean, x_m))
            output = torch.addcmul(self.output_mean, said, self.output_spread)
            return self._finish(output, clean, x_m)[0]

        weights, misfit = None, None
        if self.skip == "details":
            weights, misfit = self.details.learn_from(self._denoised(x_h, x_m), x_m)
        share, rival = judge(x_h, x_m, self.degrade, as_trained, misfit)
        return Known(weights, share, rival, x_h)

    def _denoised(self, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        return x_h if self.denoiser is None else self.denoiser(x_h, x_m)

    def _finish_guarded(
        self,
        output: torch.Tensor,
        x_h: torch.Tensor,
        x_m: torch.Tensor,
        measured: torch.Tensor,
        known: Known,
    ) -> torch.Tensor:
        if known.weights is None:
            fused = self._finish(output[None], x_h[None], x_m[None])[0]
        else:
            guess = self.details(x_m, known.weights) + UNSEEN_SHARE * output
            fused = baselines.inject(x_h, guess, self.degrade, passes=2)
        settings = {"spectra": known.lr_hsi} if known.rival == "sylvester" else {}
        rival = baselines.METHODS[known.rival](measured, x_m, self.degrade, **settings)
        return torch.lerp(rival, fused, known.share)

    def standardise(
        self, x_h: torch.Tensor, x_m: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """What the network sees of the two inputs."""
        return (x_h - self.hsi_mean) / self.hsi_spread, (x_m - self.msi_mean) / self.msi_spread

    def _finish(self, output: torch.Tensor, x_h: torch.Tensor, x_m: torch.Tensor) -> torch.Tensor:
        """The skip: from the network's contribution to the fused image."""
        if self.skip == "none":
            return output
        if self.skip == "bilinear":
            return output + baselines.bilinear(x_h, x_m, self.degrade)
        if self.skip == "details":
            guess = self.details(x_m, self.details.trained_weights()) + output
        else:
            guess = baselines.apply_regression(self.regression, x_m) + output
        return baselines.inject(x_h, guess, self.degrade, passes=2)

    def _fit(self, references: list[torch.Tensor], x_m: list[torch.Tensor]) -> None:
        """Statistics and regression from training pixels only."""
        if self.skip == "injection":
            seen, pixels = (_pixels(images)[..., None] for images in (x_m, references))
            self.regression.copy_(baselines.fit_regression(seen, pixels))
        if self.skip != "none":
            self.output_mean.zero_()
        if self.scaling == "band":
            x_h = [self.degrade.spatial(y) for y in references]
            targets = [
                y - self._finish(torch.zeros_like(y) if self.skip != "none" else 0, h, m)
                for y, h, m in zip(references, x_h, x_m, strict=True)
            ]
            for name, images in (("hsi", x_h), ("msi", x_m), ("output", targets)):
                values = _pixels(images)
                if name != "output":
                    check_alive(f"the training {name.upper()}", values)
                getattr(self, f"{name}_mean").copy_(values.mean(1)[:, None, None])
                getattr(self, f"{name}_spread").copy_(
                    values.std(1).clamp_min(LEAST_SPREAD)[:, None, None]
                )


def check_alive(what: str, values: torch.Tensor) -> None:
    """Refuse bands (C, pixels) that hold one number: nothing can be learnt from them, and divided
    by their spread they would drown all others.

    Raises:
        ValueError: names the bands.
    """
    dead = [str(band) for band, spread in enumerate(values.std(1)) if spread < LEAST_SPREAD]
    if dead:
        raise ValueError(
            f"{what}: expected bands that differ from pixel to pixel, but band {', '.join(dead)} "
            "(from 0) holds one number only; leave it out"
        )


def _pixels(images: list[torch.Tensor]) -> torch.Tensor:
    """The spectra of all pixels of all images (C, H, W): (C, pixels)."""
    return torch.cat([image.flatten(1) for image in images], dim=1)
