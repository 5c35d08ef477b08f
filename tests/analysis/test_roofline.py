"""What a network asks of a card: counts against hand-worked layers, the roof against its two lines,
hours against arithmetic.
"""

import csv
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from s3rnet_lite import S3RNet, complexity
from s3rnet_lite.analysis import roofline
from s3rnet_lite.files.provenance import DATA_FOLDER
from s3rnet_lite.peers import registry

CARD = roofline.Card("made up", 24e9, 100e9, {"float32": 10e12, "float16": 40e12}, "nowhere")


class OnFine(nn.Module):
    """Layers that see the HR-MSI only."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x_h, x_m):
        return self.layers(x_m)


def pair(side, msi_bands=4, hsi_bands=172):
    return torch.empty(1, hsi_bands, side // 4, side // 4), torch.empty(1, msi_bands, side, side)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_is_counted_as_by_hand(groups):
    [one] = roofline.operations(OnFine(nn.Conv2d(4, 6, 3, padding=1, groups=groups)), *pair(8))
    weights = 4 * 6 * 9 // groups
    assert (one.module, one.kind, one.flops) == ("layers.0", "convolution", 2 * weights * 64)
    assert one.numbers == (4 + 6) * 64 + weights + 6
    assert one.intensity("float32") == pytest.approx(one.flops / (4 * one.numbers))
    assert one.intensity("float16") == 2 * one.intensity("TF32")


def test_an_activation_moves_numbers_and_computes_nothing_that_counts():
    convolution, activation = roofline.operations(
        OnFine(nn.Conv2d(4, 4, 1), nn.LeakyReLU(0.2)), *pair(8)
    )
    assert (activation.kind, activation.flops, activation.numbers) == ("leaky_relu", 0, 2 * 4 * 64)


def test_views_are_no_operations():
    assert (
        roofline.operations(OnFine(nn.Flatten(), nn.Unflatten(1, (4, 64)), nn.Identity()), *pair(8))
        == []
    )


def test_a_tensor_that_is_used_twice_is_read_once():
    class Square(nn.Module):
        def forward(self, x_h, x_m):
            return x_m * x_m

    [one] = roofline.operations(Square(), *pair(8))
    assert (one.kind, one.numbers) == ("mul", 2 * 4 * 64)


@pytest.mark.parametrize("name", ["s3rnet", "pzres_net", "fusformer"])
def test_flops_are_those_of_complexity(name):
    network = registry.build(name, "lite", 172, 4)
    assert (
        sum(one.flops for one in roofline.operations(network, *pair(32)))
        == complexity.count(network, *pair(32)).flops
    )


def test_the_paper_network_launches_as_often_as_its_blocks_say():
    with torch.device("meta"):
        network = S3RNet.from_preset("paper", 172, 4)
    operations = roofline.operations(network, *pair(64))
    dense_blocks = 3 * (4 + 4 + 6 + 6)
    kinds = [one.kind for one in operations]
    # entries; attention's q, k, v and last; gates; head
    assert kinds.count("convolution") == 5 * dense_blocks + 4 + 4 + 1 + 2
    assert kinds.count("leaky_relu") == 4 * dense_blocks + 4 + 1
    assert kinds.count("cat") == 5 * dense_blocks + 3
    assert {one.module.split(".")[0] for one in operations} == {"mbfn", "ssawb", "head"}


def test_the_network_stays_where_it_was():
    network = OnFine(nn.Conv2d(4, 4, 1))
    roofline.operations(network, *pair(8))
    assert network.layers[0].weight.device.type == "cpu"


@given(st.floats(1e-3, 1e4), st.sampled_from(sorted(CARD.peaks)))
def test_the_roof_is_the_lower_of_two_lines_that_meet_at_the_ridge(intensity, precision):
    roof = CARD.attainable(intensity, precision)
    assert roof == pytest.approx(
        intensity * 100e9 if intensity < CARD.ridge(precision) else CARD.peaks[precision]
    )
    assert CARD.attainable(CARD.ridge(precision), precision) == pytest.approx(CARD.peaks[precision])


@given(st.integers(1, 10**12), st.integers(1, 10**9), st.sampled_from(sorted(CARD.peaks)))
def test_the_least_time_is_work_over_the_roof(flops, numbers, precision):
    one = roofline.Operation("m", "convolution", flops, numbers)
    expected = flops / CARD.attainable(one.intensity(precision), precision)
    assert one.least_seconds(CARD, precision) == pytest.approx(expected)


def test_copies_take_the_time_of_their_bytes():
    one = roofline.Operation("m", "cat", 0, 10**9)
    assert one.least_seconds(CARD, "float32") == pytest.approx(0.04) and one.least_seconds(
        CARD, "float16"
    ) == pytest.approx(0.02)


ONE = roofline.Operation("m", "convolution", 10**12, 1)


def test_hours_by_hand():
    peak = CARD.peaks["float32"]
    step = 10 * [ONE]  # 1e13 FLOPs forward, three times that a step; half of the peak is reached
    hours = roofline.training_hours(step, CARD, "float32", 100, 0.5)
    assert hours == pytest.approx(100 * 3 * 1e13 / (0.5 * peak) / 3600)
    four = roofline.training_hours(step, CARD, "float32", 100, 0.5, passes=4)
    assert four == pytest.approx(hours * 4 / 3)


def test_a_step_takes_no_less_than_its_launches():
    small = 1000 * [roofline.Operation("m", "add", 1, 1)]
    hours = roofline.training_hours(small, CARD, "float32", 3600)
    assert hours == pytest.approx(3 * 1000 * 13e-6)
    assert roofline.training_hours(small, CARD, "float32", 3600, 0.5) == hours


@pytest.mark.parametrize("utilisation", [0, -0.1, 1.1, math.nan])
def test_a_utilisation_is_a_share(utilisation):
    with pytest.raises(ValueError, match="utilisation"):
        roofline.training_hours([ONE], CARD, "float32", 1, utilisation)


def test_the_cards_are_those_of_the_table_without_sparsity():
    cards = roofline.cards()
    with open(DATA_FOLDER / "gpu_cards.csv", newline="") as file:
        assert [row["card"] for row in csv.DictReader(file)] == list(cards)
    a100 = cards["A100 40 GB"]
    assert (a100.memory, a100.bandwidth) == (40e9, 1555e9)
    assert a100.peaks == {"float32": 19.5e12, "TF32": 156e12, "bfloat16": 312e12, "float16": 312e12}
    for card in cards.values():
        assert card.source and card.memory > 1e9
        if (
            "TF32" in card.peaks
        ):  # Ampere and later: dense tensor units do 16-bit numbers at twice the speed of TF32
            assert (
                card.peaks["bfloat16"]
                == card.peaks["float16"]
                == pytest.approx(2 * card.peaks["TF32"], rel=0.01)
            )
    assert all(set(cards[name].peaks) == {"float32", "float16"} for name in ("V100 32 GB", "T4"))
