"""Scores on whole scenes."""

import numpy as np
import pytest
from small_training import QUICK, tiny

from s3rnet_lite import training
from s3rnet_lite.training import validate


def test_several_scenes_are_validated_by_their_mean(small_train, small_val):
    model = training.wrap(tiny(), [small_train], QUICK)
    both, first, second = (
        validate(model, which) for which in ([small_val, small_train], small_val, small_train)
    )
    assert both["ergas"] == pytest.approx((first["ergas"] + second["ergas"]) / 2)
    assert both["gate_means"] == pytest.approx(
        np.mean([first["gate_means"], second["gate_means"]], axis=0)
    )
