"""The ablations change one thing at a time and report what chapter 06 draws."""

from dataclasses import replace

import pytest

from s3rnet_lite.experiments import ablations
from s3rnet_lite.network.s3rnet import PRESETS
from s3rnet_lite.training import CONFIGS


def test_every_change_really_differs_from_the_lite_preset():
    for name, changes in ablations.VARIANTS.items():
        network, config = changes.get("network", {}), changes.get("config", {})
        assert bool(network or config) == (name != "lite")
        assert all(getattr(PRESETS["lite"], key) != value for key, value in network.items())
        assert all(getattr(CONFIGS["lite"], key) != value for key, value in config.items())


def test_the_papers_form_undoes_every_cure():
    changes = ablations.VARIANTS["the paper's form"]
    form, printed = replace(PRESETS["lite"], **changes["network"]), PRESETS["paper"]
    for field in ("gate_bias", "normalise_attention", "upsampling", "entry_kernel_size", "damped"):
        assert getattr(form, field) == getattr(printed, field)
    assert (
        changes["config"]["skip"] == "none"
        and changes["config"]["scaling"] == "range"
        and changes["config"]["sam_weight"] == 0.1
    )


@pytest.mark.parametrize("name", ["lite", "the paper's form"])
def test_a_variant_reports_gates_metrics_and_logits(name):
    row = ablations.run(name, msi_bands=6, steps=2, seed=0)
    assert [entry["step"] for entry in row["validation"]] == [1, 2]
    assert len(row["validation"][-1]["gate_means"]) == 4 and row["name"] == name
    # Normalised logits are cosines times a temperature that starts at 1; the paper's grow with the
    # image.
    logit = row["mean_attention_logit"]["before"]
    assert logit < 1 if name == "lite" else logit > 1
