"""The training loop: repeatability, resume, failures, and that it learns."""

from dataclasses import replace

import pytest
import torch
from small_training import tiny

from s3rnet_lite import S3RNet, baselines, metrics
from s3rnet_lite.training import CONFIGS, TrainingConfig, fit, predict
from s3rnet_lite.training.fusion import FusionModel

pytestmark = pytest.mark.slow  # not part of `make check`

QUICK = replace(CONFIGS["tiny"], steps=6, batch_size=2, crop=16, warmup_steps=2, validate_every=3)


def weights(history) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in history.model.parameters()])


def test_defaults_are_the_papers_settings():
    config = TrainingConfig()
    assert (config.learning_rate, config.sam_weight) == (1e-4, 0.1)
    assert (config.batch_size, config.crop) == (4, 128)
    assert config.steps == 600 * 420  # 600 epochs; 1,678 images make 420 batches of 4
    assert (config.scaling, config.skip) == ("range", "none")
    assert config.snr_db is None and config.warmup_steps == 0


def test_the_same_seed_gives_the_same_weights(small_train, small_val):
    first, second = (fit(tiny(), small_train, small_val, QUICK, progress=False) for _ in range(2))
    assert torch.equal(weights(first), weights(second))
    other = fit(tiny(), small_train, small_val, replace(QUICK, seed=1), progress=False)
    assert not torch.equal(weights(first), weights(other))


@pytest.mark.parametrize("snr_db", [None, 30.0, (10.0, 40.0)])
def test_a_resumed_run_ends_with_the_weights_of_an_unbroken_one(
    snr_db, small_train, small_val, tmp_path
):
    config = replace(QUICK, snr_db=snr_db)
    unbroken = fit(tiny(), small_train, small_val, config, progress=False)
    state = tmp_path / "state.safetensors"
    calls = 0
    while True:
        # Each later call starts from other weights: only the state file can make the ends equal.
        history = fit(
            tiny(seed=calls),
            small_train,
            small_val,
            config,
            state_file=state,
            minutes=1e-9,
            progress=False,
        )
        calls += 1
        assert len(history.loss) == min(calls, config.steps)
        if history.complete:
            break
    assert calls == config.steps
    assert torch.equal(weights(unbroken), weights(history))
    assert unbroken.loss == history.loss
    assert [row["step"] for row in history.validation] == [3, 6]


def test_a_finished_state_file_trains_no_further(small_train, small_val, tmp_path):
    state = tmp_path / "state.safetensors"
    done = fit(tiny(), small_train, small_val, QUICK, state_file=state, progress=False)
    again = fit(tiny(seed=5), small_train, small_val, QUICK, state_file=state, progress=False)
    assert again.complete and torch.equal(weights(done), weights(again))


def test_a_state_of_another_run_is_refused(small_train, small_val, tmp_path):
    state = tmp_path / "state.safetensors"
    fit(tiny(), small_train, small_val, QUICK, state_file=state, progress=False)
    with pytest.raises(ValueError, match=r"learning_rate was 0\.00"):
        fit(
            tiny(),
            small_train,
            small_val,
            replace(QUICK, learning_rate=1.0),
            state_file=state,
            progress=False,
        )
    other = replace(small_train, cube=small_train.cube.flip(1))
    with pytest.raises(ValueError, match="it saw other training images"):
        fit(tiny(), other, small_val, QUICK, state_file=state, progress=False)
    wider = S3RNet.from_preset("tiny", 170, 6, width=18)
    with pytest.raises(ValueError, match="its network has other weights"):
        fit(wider, small_train, small_val, QUICK, state_file=state, progress=False)
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(ValueError, match="damaged"):
        fit(tiny(), small_train, small_val, QUICK, state_file=state, progress=False)


def test_a_loss_that_is_not_finite_stops_with_its_step(small_train, small_val):
    with pytest.raises(FloatingPointError, match="at step"):
        fit(
            tiny(),
            small_train,
            small_val,
            replace(QUICK, learning_rate=1e30, warmup_steps=0, gradient_clip=None),
            progress=False,
        )


def test_noise_changes_what_is_learnt(small_train, small_val):
    clean = fit(tiny(), small_train, small_val, QUICK, progress=False)
    noisy = fit(tiny(), small_train, small_val, replace(QUICK, snr_db=5.0), progress=False)
    assert noisy.loss[0] > clean.loss[0]


def test_the_validation_region_never_reaches_the_weights(small_train, small_val):
    first = fit(tiny(), small_train, small_val, QUICK, progress=False)
    other_val = replace(small_val, cube=small_val.cube * 0.5)
    second = fit(tiny(), small_train, other_val, QUICK, progress=False)
    assert torch.equal(weights(first), weights(second))
    assert first.validation != second.validation


def test_history_records_metrics_and_gates(small_train, small_val):
    history = fit(tiny(), small_train, small_val, QUICK, progress=False)
    y_hat, gates = predict(history.model, small_val)
    assert history.complete and len(history.loss) == QUICK.steps
    assert history.validation[-1]["gate_means"] == gates and all(0 < gate < 1 for gate in gates)
    assert history.validation[-1]["sam_degrees"] == metrics.sam(y_hat, small_val.cube)


def test_a_fusion_model_keeps_its_statistics(small_train, small_val, degrade6):
    model = FusionModel(tiny(), degrade6, "band", "injection", small_train.cube)
    before = model.hsi_mean.clone()
    brighter = replace(small_train, cube=small_train.cube * 0.5)
    found = fit(model, brighter, small_val, QUICK, progress=False).model
    assert torch.equal(model.hsi_mean, before)
    pairs = zip(found.parameters(), model.parameters(), strict=True)
    assert all(one is other for one, other in pairs)  # trained in place


def test_gates_learn_more_slowly_by_the_factor_asked_for(small_train, small_val):
    def gate_movement(factor: float) -> float:
        history = fit(
            tiny(),
            small_train,
            small_val,
            replace(QUICK, gate_learning_rate_factor=factor),
            progress=False,
        )
        return float((history.model.network.ssawb.gates[0].bias.detach() - 2.0).abs().max())

    assert gate_movement(0.0) == 0.0
    assert 0 < gate_movement(0.01) < 0.1 * gate_movement(1.0)


@pytest.mark.parametrize("seed", range(5))
def test_five_of_five_seeds_learn(seed, indian_pines_split):
    """80 steps take a bilinear skip, which knows no detail, clearly further on unseen pixels, with
    four live gates.
    """
    train, val, _ = indian_pines_split
    config = replace(
        CONFIGS["tiny"],
        steps=80,
        warmup_steps=10,
        validate_every=80,
        batch_size=4,
        learning_rate=6e-3,
        mixing=0.0,
        sam_weight=0.1,
        skip="bilinear",
        seed=seed,
    )
    history = fit(tiny(seed), train, val, config, progress=False)
    degrade = history.model.degrade
    before = metrics.pooled_psnr(baselines.bilinear(*degrade(val.cube), degrade), val.cube)
    assert history.validation[-1]["psnr_pooled_scene_peak"] > before + 0.5
    assert min(history.validation[-1]["gate_means"]) > 0.05
