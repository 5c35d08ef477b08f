"""Channel energy: closed forms, a hand-worked case, float64 loops, scikit-learn's area under the
Lorenz curve, and invariances.
"""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import auc

from s3rnet_lite import energy

NUMBERS = (energy.gini, energy.hoyer, energy.participation_ratio, energy.top_share)
HAND = torch.tensor([0.0, 6.0, 1.0, 3.0])  # sum 10, squares 46
COUNTS = st.integers(2, 40)


def random_energies(seed: int, count: int) -> torch.Tensor:
    return (
        torch.rand(
            count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        ).square()
        + 1e-6
    )


def test_energy_by_hand_over_batch_and_pixels():
    features = torch.tensor(
        [[[[1.0, -1.0]], [[3.0, 0.0]]], [[[0.0, 2.0]], [[-3.0, 4.0]]]]
    )  # (2, 2, 1, 2)
    assert energy.channel_energy(features).tolist() == pytest.approx([6 / 40, 34 / 40])
    assert energy.channel_energy(features[0]).tolist() == pytest.approx([2 / 11, 9 / 11])


def test_the_mean_of_a_channel_counts_as_energy():
    features = torch.stack([torch.full((4, 5), 3.0), torch.randn(4, 5)])
    flat = features - features.mean((-2, -1), keepdim=True)
    assert energy.channel_energy(features)[0] > 0.5 and energy.channel_energy(flat)[0] < 1e-12


def test_an_image_of_a_batch_weighs_by_its_own_energy():
    dark, bright = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    dark[:, 0], bright[:, 1] = 1, 10
    assert energy.channel_energy(torch.cat([dark, bright])).tolist() == pytest.approx(
        [1 / 101, 100 / 101]
    )


@given(
    seed=st.integers(0, 999),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5)),
)
def test_energy_is_that_of_a_loop_in_float64(seed, shape):
    features = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    loop = [sum(float(v) ** 2 for v in features[:, c].flatten()) for c in range(shape[1])]
    shares = energy.channel_energy(features)
    assert shares.shape == (shape[1],) and shares.dtype == torch.float64
    np.testing.assert_allclose(shares.numpy(), np.array(loop) / sum(loop), rtol=1e-12)
    torch.testing.assert_close(
        energy.channel_energy(features[None].bfloat16()), energy.channel_energy(features.bfloat16())
    )


def test_a_rotation_of_the_channels_moves_energy_and_keeps_its_total():
    features = torch.zeros(4, 8, 8, dtype=torch.float64)
    features[0] = torch.randn(8, 8, dtype=torch.float64)
    hadamard = (
        torch.tensor(
            [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float64
        )
        / 2
    )
    turned = torch.einsum("dc,chw->dhw", hadamard, features)
    assert float(turned.square().sum()) == pytest.approx(float(features.square().sum()))
    assert energy.gini(energy.channel_energy(features)) == pytest.approx(0.75)
    assert energy.gini(energy.channel_energy(turned)) == pytest.approx(0, abs=1e-12)


@given(count=COUNTS, place=st.integers(0, 39))
def test_closed_forms_of_equal_energies_and_of_a_single_one(count, place):
    equal, single = torch.ones(count), torch.zeros(count)
    single[place % count] = 7.0
    assert energy.summary(equal) == pytest.approx(
        {
            "channels": count,
            "gini": 0,
            "hoyer": 0,
            "effective_channels": count,
            "effective_share": 1,
            "top_10_percent": 0.1,
        },
        abs=1e-6,
    )
    assert energy.summary(single) == pytest.approx(
        {
            "channels": count,
            "gini": 1 - 1 / count,
            "hoyer": 1,
            "effective_channels": 1,
            "effective_share": 1 / count,
            "top_10_percent": min(1, count / 10),
        }
    )


@given(count=COUNTS, some=st.integers(1, 40))
def test_closed_form_of_equal_energy_in_some_channels(count, some):
    some = min(some, count)
    energies = torch.cat([torch.ones(some), torch.zeros(count - some)])
    assert energy.gini(energies) == pytest.approx(1 - some / count)
    assert energy.participation_ratio(energies) == pytest.approx(some)
    assert energy.hoyer(energies) == pytest.approx(
        (math.sqrt(count) - math.sqrt(some)) / (math.sqrt(count) - 1)
    )
    assert energy.top_share(energies, 0.5) == pytest.approx(min(1, 0.5 * count / some))


def test_the_numbers_by_hand():
    assert energy.gini(HAND) == pytest.approx((-3 * 0 - 1 * 1 + 1 * 3 + 3 * 6) / (4 * 10))
    assert energy.hoyer(HAND) == pytest.approx(2 - 10 / math.sqrt(46))
    assert energy.participation_ratio(HAND) == pytest.approx(100 / 46)
    assert energy.top_share(HAND, 0.25) == pytest.approx(0.6)
    assert energy.top_share(HAND, 0.10) == pytest.approx(0.4 * 0.6)  # four tenths of the richest
    assert energy.top_share(HAND, 0.60) == pytest.approx(
        0.6 + 0.3 + 0.4 * 0.1
    )  # two, and 0.4 of the third


@given(seed=st.integers(0, 999), count=COUNTS)
def test_gini_is_the_mean_difference_of_two_channels_and_twice_the_area_above_the_lorenz_curve(
    seed, count
):
    energies = random_energies(seed, count)
    values = energies.tolist()
    pairs = sum(abs(a - b) for a in values for b in values) / count**2
    assert energy.gini(energies) == pytest.approx(pairs / (2 * sum(values) / count))
    lorenz = np.concatenate([[0], np.cumsum(np.sort(values))]) / sum(values)
    assert energy.gini(energies) == pytest.approx(1 - 2 * auc(np.linspace(0, 1, count + 1), lorenz))


@given(seed=st.integers(0, 999), count=COUNTS, fraction=st.floats(0.01, 1))
def test_top_share_is_read_from_the_lorenz_curve(seed, count, fraction):
    energies = random_energies(seed, count)
    rich_first = np.concatenate([[0], np.cumsum(np.sort(energies.numpy())[::-1])]) / float(
        energies.sum()
    )
    assert energy.top_share(energies, fraction) == pytest.approx(
        np.interp(fraction, np.linspace(0, 1, count + 1), rich_first)
    )


@given(seed=st.integers(0, 999), count=COUNTS)
def test_hoyer_and_participation_ratio_are_their_formulas_and_tell_the_same_order(seed, count):
    values = random_energies(seed, count).numpy()
    ratio = np.linalg.norm(values, 1) / np.linalg.norm(values, 2)
    assert energy.hoyer(torch.from_numpy(values)) == pytest.approx(
        (count**0.5 - ratio) / (count**0.5 - 1), abs=1e-9
    )
    assert energy.participation_ratio(torch.from_numpy(values)) == pytest.approx(ratio**2)


@given(seed=st.integers(0, 999), count=COUNTS, factor=st.floats(1e-3, 1e3))
def test_order_and_unit_do_not_matter(seed, count, factor):
    energies = random_energies(seed, count)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    for number in NUMBERS:
        assert number(factor * energies[order]) == pytest.approx(number(energies), abs=1e-9)


@given(seed=st.integers(0, 999), count=COUNTS)
def test_taking_from_the_rich_lowers_every_measure_of_concentration(seed, count):
    poor_first = random_energies(seed, count).sort().values
    gift = 0.4 * (poor_first[-1] - poor_first[0])
    levelled = poor_first.clone()
    levelled[0] += gift
    levelled[-1] -= gift
    for number in (energy.gini, energy.hoyer, energy.top_share):
        assert number(levelled) < number(poor_first) or gift < 1e-9
    assert (
        energy.participation_ratio(levelled) > energy.participation_ratio(poor_first) or gift < 1e-9
    )


@pytest.mark.parametrize(
    ("features", "error", "message"),
    [
        (torch.zeros(2, 3, 4, 4), ValueError, "zeros only"),
        (torch.ones(3, 4), ValueError, r"expected shape \(\.\.\., C, H, W\)"),
        (torch.full((3, 4, 4), math.nan), ValueError, "48 NaN"),
        (torch.ones(3, 0, 4), ValueError, "non-empty"),
        (torch.ones(3, 4, 4, dtype=torch.int64), TypeError, "floating-point"),
        (np.ones((3, 4, 4)), TypeError, "torch.Tensor"),
    ],
)
def test_bad_features_are_refused(features, error, message):
    with pytest.raises(error, match=message):
        energy.channel_energy(features)


@pytest.mark.parametrize("number", [*NUMBERS, energy.summary])
@pytest.mark.parametrize(
    ("energies", "error", "message"),
    [
        (torch.tensor([1.0, -0.1]), ValueError, "at least 0"),
        (torch.tensor([1.0, math.nan]), ValueError, "finite"),
        (torch.tensor([1.0, math.inf]), ValueError, "finite"),
        (torch.zeros(3), ValueError, "zeros only"),
        (torch.ones(2, 3), ValueError, r"expected shape \(C,\)"),
        (torch.ones(0), ValueError, r"expected shape \(C,\)"),
        (torch.ones(3, dtype=torch.int64), TypeError, "int64"),
        ([0.5, 0.5], TypeError, "list"),
    ],
)
def test_bad_energies_are_refused(number, energies, error, message):
    with pytest.raises(error, match=message):
        number(energies)


def test_one_channel_has_no_hoyer_number():
    with pytest.raises(ValueError, match="at least two channels"):
        energy.hoyer(torch.ones(1))
    assert energy.gini(torch.ones(1)) == 0 and energy.participation_ratio(torch.ones(1)) == 1


@pytest.mark.parametrize("fraction", [0.0, -0.1, 1.01, math.nan])
def test_a_fraction_outside_its_range_is_refused(fraction):
    with pytest.raises(ValueError, match="fraction: expected a number above 0 and up to 1"):
        energy.top_share(HAND, fraction)
    assert energy.top_share(HAND, 1) == pytest.approx(1)


def test_a_bright_and_a_faint_feature_have_the_same_shares():
    features = torch.rand(5, 6, 6) + 0.1
    for factor in (1e-18, 1.0, 1e18):  # squares that float32 could not hold
        torch.testing.assert_close(
            energy.channel_energy(factor * features),
            energy.channel_energy(features),
            rtol=1e-5,
            atol=0,
        )
