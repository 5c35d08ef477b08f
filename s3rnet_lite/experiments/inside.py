"""What chapters 07 and 08 look at inside an S3RNet, as numbers to store: the energies of the fused
feature and the likeness of its branches; used in notebooks/10_gpu_training.ipynb.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..analysis import cka, energy, probes
from ..sensing.scene import Scene
from ..training.fusion import FusionModel


@torch.no_grad()
def inside(model: FusionModel, scene: Scene) -> dict:
    """Of an S3RNet that fuses `scene`: "energy", `energy.summary` of the fused feature, "raw" and
    "centred" (around each channel's mean), and "cka": the unbiased CKA of every two "layers", the
    entry and the residual groups of each branch. Samples are the pixels of the LR-HSI's grid, to
    which the finer branches are averaged.
    """
    mbfn, ssawb = model.network.mbfn, model.network.ssawb
    layers = {
        f"{name} {i}": layer
        for name in "QKVZ"
        for i, layer in enumerate([*getattr(mbfn, name.lower())][1:])
    }
    x_h, x_m = (x[None] for x in model.degrade(scene.cube))
    with probes.record_all({**layers, "fused": ssawb}) as seen:
        model(x_h, x_m)
    fused = seen.pop("fused")[0].float()
    centred = fused - fused.mean((-2, -1), keepdim=True)
    grid = tuple(x_h.shape[-2:])
    samples = {
        name: cka.pixels(F.adaptive_avg_pool2d(output[0].float(), grid))
        for name, output in seen.items()
    }
    names, matrix = cka.linear_cka_matrix(samples)
    return {
        "energy": {
            kind: energy.summary(energy.channel_energy(x))
            for kind, x in (("raw", fused), ("centred", centred))
        },
        "cka": {"layers": names, "matrix": [[round(v, 4) for v in row] for row in matrix.tolist()]},
    }
