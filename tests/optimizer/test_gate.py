"""The gate: features, training, calibration, restriction by masking, and what is not true of it."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from updraft.errors import ProblemError
from updraft.optimizer.gate.features import TextFeatures
from updraft.optimizer.gate.fit import fit_calibration, fit_gate, score
from updraft.optimizer.gate.gate import Gate, Layer, masked_softmax
from updraft.optimizer.gate.lbfgs import minimise

FROZEN_ROW = [0.3086067, 0.6172134, -0.6172134, 0.0, 0.3086067, 0.0, 0.1543034, 0.1543034]
IDS = ("ant", "bee", "cat", "dog")
LOGITS = arrays(np.float64, (5, 4), elements=st.floats(-30, 30))
MASKS = arrays(np.bool_, 4).filter(np.any)
TEMPERATURES = st.floats(0.05, 10)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gate_of(logits):
    """A gate that reads off its logits: features are rows of the identity."""
    return Gate(
        IDS[: logits.shape[1]], (Layer(np.array(logits, np.float64), np.zeros(logits.shape[1])),)
    )


def task(seed=0, prompts=400, width=6, experts=4):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(prompts, width))
    truth = sigmoid(features @ rng.normal(size=(width, experts)) + rng.normal(size=experts))
    return features, truth, (rng.random(truth.shape) < truth).astype(float)


# Features of text


def test_text_features_stay_what_they_were():
    """A gate is trained on one machine and read on another, maybe years later."""
    row = TextFeatures(width=8).encode(["def main(): pass"])[0]
    assert row == pytest.approx(FROZEN_ROW, abs=1e-6)


@given(st.lists(st.text(max_size=60), max_size=5), st.integers(1, 300))
def test_rows_have_length_one_or_none(texts, width):
    rows = TextFeatures(width=width).encode(texts)
    assert rows.shape == (len(texts), width)
    lengths = np.linalg.norm(rows, axis=1)
    assert np.all((np.abs(lengths - 1) < 1e-5) | (lengths == 0))


@given(st.text(alphabet="abc \n", min_size=1, max_size=40), st.text("abc ", max_size=40))
def test_a_text_is_encoded_alike_in_any_company_case_and_layout(text, other):
    features = TextFeatures(width=64)
    alone = features.encode([text])[0]
    assert np.array_equal(alone, features.encode([other, text])[1])
    assert np.array_equal(alone, features.encode(["  " + text.upper().replace(" ", "\n ")])[0])


def test_like_texts_are_nearer_than_unlike_ones_and_seeds_differ():
    texts = ["sort the list of numbers", "sort a list of numbers", "bonjour tout le monde"]
    rows = TextFeatures().encode(texts)
    assert rows[0] @ rows[1] > 0.5
    assert abs(rows[0] @ rows[2]) < 0.1
    assert abs(TextFeatures(seed=1).encode(texts)[0] @ rows[0]) < 0.3


@pytest.mark.parametrize("wrong", [{"width": 0}, {"words": 0}, {"characters": (0,)}, {"seed": -1}])
def test_impossible_text_features_are_refused(wrong):
    with pytest.raises(ProblemError, match="at least 1"):
        TextFeatures(**wrong)


# Restriction by masking


@given(LOGITS, MASKS, TEMPERATURES)
def test_weights_are_shares_of_the_allowed(logits, mask, temperature):
    weights = gate_of(logits).weights(np.eye(5), mask, temperature)
    assert np.all(weights >= 0)
    assert np.all(weights[:, ~mask] == 0)
    assert weights.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-12)


@given(LOGITS, MASKS, TEMPERATURES)
def test_masking_is_renormalising_and_ratios_do_not_depend_on_the_others(logits, mask, temperature):
    gate = gate_of(logits)
    every = gate.weights(np.eye(5), np.ones(4, bool), temperature)
    some = gate.weights(np.eye(5), mask, temperature)
    for i, j in combinations(np.flatnonzero(mask), 2):
        assert some[:, i] * every[:, j] == pytest.approx(some[:, j] * every[:, i], abs=1e-12)
    kept = every[:, mask]
    fine = kept.sum(axis=1) > 1e-9
    assert some[fine][:, mask] == pytest.approx(
        kept[fine] / kept[fine].sum(axis=1, keepdims=True), rel=1e-9
    )


@given(LOGITS.map(np.round), MASKS)
def test_route_is_the_best_allowed_and_the_limit_of_the_weights(logits, mask):
    gate = gate_of(logits)
    route = gate.route(np.eye(5), mask)
    assert np.all(mask[route])
    assert np.array_equal(logits[np.arange(5), route], np.where(mask, logits, -np.inf).max(axis=1))
    cold = gate.weights(np.eye(5), mask, 1e-300)
    tied = np.where(mask, logits, -np.inf) == logits[np.arange(5), route][:, None]
    assert cold == pytest.approx(tied / tied.sum(axis=1, keepdims=True))


@given(LOGITS, MASKS, st.permutations(range(4)), TEMPERATURES)
def test_the_order_of_experts_does_not_matter(logits, mask, order, temperature):
    before = gate_of(logits).weights(np.eye(5), mask, temperature)
    after = gate_of(logits[:, order]).weights(np.eye(5), mask[order], temperature)
    assert after == pytest.approx(before[:, order], abs=1e-12)


@given(arrays(np.float64, (6, 4), elements=st.floats(0, 1)))
def test_routing_by_the_truth_is_best_for_every_selection_at_once(truth):
    """The theorem, with P prompts for the expectation: one gate, optimal for all 15 selections."""
    logits = np.log(truth + 1e-9) - np.log1p(1e-9 - truth)
    gate = gate_of(logits)
    for n in range(1, 5):
        for selected in combinations(range(4), n):
            route = gate.route(np.eye(6), gate.mask([IDS[i] for i in selected]))
            earned = truth[np.arange(6), route]
            assert earned == pytest.approx(truth[:, selected].max(axis=1), abs=1e-6)


@given(
    arrays(np.float64, (6, 4), elements=st.floats(0, 1)),
    arrays(np.float64, (6, 4), elements=st.floats(-1, 1)),
    st.floats(0, 0.3),
)
def test_an_error_of_delta_costs_at_most_two_delta(truth, direction, delta):
    """Choosing two of four experts and routing, both by wrong qualities."""
    wrong = truth + delta * direction
    pairs = [list(pair) for pair in combinations(range(4), 2)]
    chosen = max(pairs, key=lambda pair: wrong[:, pair].max(axis=1).sum())
    route = np.array(chosen)[wrong[:, chosen].argmax(axis=1)]
    earned = truth[np.arange(6), route].sum()
    best = max(truth[:, pair].max(axis=1).sum() for pair in pairs)
    assert earned >= best - 2 * delta * 6 - 1e-9


def test_the_bound_of_two_delta_is_reached():
    truth, delta = np.array([[0.5, 0.3]]), 0.1
    wrong = truth + delta * np.array([[-1, 1 + 1e-9]])
    lost = truth.max() - truth[0, wrong.argmax()]
    assert lost == pytest.approx(2 * delta)


# What is not true


def mixture_optimum(experts, truth):
    """Weights that maximise the expected log of the mixture, found numerically."""

    def loss(z):
        weights = masked_softmax(z[None], np.ones(len(z), bool), 1.0)[0]
        share = truth / (weights @ experts)
        slope = experts @ share
        return -float(truth @ np.log(weights @ experts)), -weights * (slope - weights @ slope)

    found = minimise(loss, np.zeros(len(experts)), iterations=2000, tolerance=1e-12)
    return masked_softmax(found[None], np.ones(len(experts), bool), 1.0)[0]


def test_for_mixture_log_loss_the_full_optimum_says_nothing_of_a_selection():
    truth = np.array([0.6, 0.3, 0.1])
    experts = np.array([[0.8, 0.1, 0.1], [0.1, 0.7, 0.2], [0.6, 0.3, 0.1]])
    assert mixture_optimum(experts, truth) == pytest.approx([0, 0, 1], abs=1e-3)
    assert mixture_optimum(experts[:2], truth) == pytest.approx([0.697, 0.303], abs=1e-3)
    # Linear reward of the same experts: the best single one, and no such surprise.
    lone = [-truth @ np.log(expert) for expert in experts]
    assert np.argmin(lone) == 2
    # Gates next to the full optimum restrict to anything, and one of them to much worse.
    for share in (0.01, 0.99):
        near = np.array([share * 1e-6, (1 - share) * 1e-6, 1 - 1e-6])
        kept = masked_softmax(np.log(near)[None], np.array([True, True, False]), 1.0)[0]
        assert kept == pytest.approx([share, 1 - share, 0])
        excess = truth @ np.log(np.array([0.697, 0.303]) @ experts[:2])
        excess -= truth @ np.log(kept @ experts)
        assert excess > 0.1


def test_soft_weights_can_lose_by_one_more_expert_and_routing_cannot():
    rng = np.random.default_rng(0)
    lost = {1.0: 0, 0.0: 0}
    for _ in range(20):
        truth = rng.uniform(0.05, 0.95, (8, 4))
        gate = gate_of(np.log(truth / (1 - truth)))
        for n in range(1, 4):
            for selected in combinations(range(4), n):
                for added in set(range(4)) - set(selected):
                    few, more = np.zeros((2, 4), bool)
                    few[list(selected)], more[[*selected, added]] = True, True
                    soft = [
                        (gate.weights(np.eye(8), mask, 1.0) * truth).sum() for mask in (few, more)
                    ]
                    hard = [
                        truth[range(8), gate.route(np.eye(8), mask)].sum() for mask in (few, more)
                    ]
                    lost[1.0] += soft[1] < soft[0] - 1e-9
                    lost[0.0] += hard[1] < hard[0] - 1e-9
    assert lost[1.0] > 0
    assert lost[0.0] == 0


# Training and calibration


@pytest.mark.parametrize("hidden", [0, 8])
def test_a_trained_gate_is_calibrated_and_nearly_optimal(hidden):
    features, truth, answers = task(prompts=3000)
    fit = fit_gate(features[:2000], answers[:2000], IDS, hidden=hidden)
    new = features[2000:]
    assert np.abs(fit.gate.quality(new) - truth[2000:]).mean() < 0.05
    scores = score(fit.gate, new, answers[2000:])
    assert scores.ece.max() < 0.08
    earned = truth[np.arange(2000, 3000), fit.gate.route(new, np.ones(4, bool))].mean()
    assert earned > 0.98 * truth[2000:].max(axis=1).mean() > truth[2000:].mean(axis=0).max()


def test_a_hidden_layer_learns_what_a_linear_gate_cannot():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(1500, 2))
    wins = (features[:, :1] * features[:, 1:] > 0).astype(float)
    losses = [
        float(
            score(
                fit_gate(features[:1000], wins[:1000], ["one"], hidden=h).gate,
                features[1000:],
                wins[1000:],
            ).log_loss[0]
        )
        for h in (0, 12)
    ]
    assert losses[1] < 0.5 * losses[0]


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sets(st.integers(0, 3), min_size=1))
def test_a_linear_gate_for_some_experts_is_that_part_of_the_gate_for_all(seed, selected):
    features, _, answers = task(seed, prompts=80)
    columns = sorted(selected)
    whole = fit_gate(features, answers, IDS, ridges=(0.1,), seed=seed).gate
    part = fit_gate(
        features, answers[:, columns], [IDS[i] for i in columns], ridges=(0.1,), seed=seed
    ).gate
    assert part.logits(features) == pytest.approx(whole.logits(features)[:, columns], abs=1e-3)


@settings(max_examples=30)
@given(arrays(np.float64, (30, 4), elements=st.floats(0, 1)), st.integers(0, 99))
def test_calibration_never_adds_log_loss_where_it_is_fitted_and_labels_may_be_shares(labels, seed):
    features = np.random.default_rng(seed).normal(size=(30, 3))
    fit = fit_gate(features, labels, IDS, ridges=(0.1,), seed=seed)
    assert fit.after.log_loss.sum() <= fit.before.log_loss.sum() + 1e-9
    assert np.all(np.isfinite(fit.gate.quality(features)))


def test_calibration_mends_overconfidence_and_bias_on_prompts_it_has_not_seen():
    rng = np.random.default_rng(3)
    logits = rng.normal(size=(4000, 2))
    outcomes = (rng.random(logits.shape) < sigmoid(logits)).astype(float)
    slope, shift = fit_calibration(4 * logits[:2000] + 3, outcomes[:2000])
    assert slope == pytest.approx([0.25, 0.25], abs=0.03)
    assert 3 * slope + shift == pytest.approx([0, 0], abs=0.15)


def test_the_minimiser_follows_a_bent_valley_to_its_end():
    def valley(x):
        bend = x[1:] - x[:-1] ** 2
        slope = np.zeros_like(x)
        slope[1:] += 200 * bend
        slope[:-1] -= 400 * bend * x[:-1] + 2 * (1 - x[:-1])
        return float((100 * bend**2 + (1 - x[:-1]) ** 2).sum()), slope

    assert minimise(valley, np.zeros(20), iterations=1000) == pytest.approx(np.ones(20), abs=1e-5)


def test_an_expert_that_is_always_right_is_believed_within_reason():
    features, _, answers = task()
    answers[:, 1] = 1
    quality = fit_gate(features, answers, IDS).gate.quality(features)
    assert np.all((quality[:, 1] > 0.95) & (quality[:, 1] < 1))


def test_training_is_deterministic_and_indifferent_to_units():
    features, _, answers = task(prompts=100)
    one, two = (fit_gate(features, answers, IDS, hidden=4, seed=5).gate for _ in range(2))
    assert one.to_bytes() == two.to_bytes()
    units = np.array([0.5, 1, 2, 4, 1, 3])
    linear = fit_gate(features, answers, IDS).gate.logits(features)
    scaled = fit_gate(features * units + 7, answers, IDS).gate.logits(features * units + 7)
    assert scaled == pytest.approx(linear, abs=1e-3)


def test_a_column_that_never_varied_says_nothing_when_it_does():
    features, _, answers = task(prompts=100)
    still = np.column_stack((features, np.full(100, 0.1)))
    gate = fit_gate(still, answers, IDS).gate
    moved = still.copy()
    moved[:, -1] = 0.3
    assert gate.logits(moved) == pytest.approx(gate.logits(still), abs=1e-3)


# Files


@pytest.mark.parametrize("hidden", [0, 3])
def test_a_gate_survives_its_file(hidden):
    text = TextFeatures(width=6, words=1, characters=(2, 5), seed=9)
    features, _, answers = task(prompts=60)
    gate = fit_gate(features, answers, IDS, hidden=hidden, text=text).gate
    again = Gate.from_bytes(gate.to_bytes())
    assert (again.experts, again.text) == (gate.experts, text)
    assert np.array_equal(again.logits(features), gate.logits(features))
    assert again.to_bytes() == gate.to_bytes()


FILE = gate_of(np.arange(20.0).reshape(5, 4)).to_bytes()


@given(st.data())
def test_a_damaged_file_is_refused_or_says_the_same(data):
    damaged = bytearray(FILE)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(FILE) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(damaged[: data.draw(st.integers(0, len(FILE)))])
    try:
        gate = Gate.from_bytes(damaged)
    except ProblemError as error:
        assert error.faults[0].startswith("gate: ")
    else:
        assert gate.to_bytes() == FILE


def test_files_of_other_kinds_and_versions_are_named(tmp_path):
    with pytest.raises(ProblemError, match="damaged or no gate"):
        Gate.from_bytes(b"not a gate")
    np.savez(tmp_path / "gate.npz", format=np.array("updraft-gate-9"))
    with pytest.raises(ProblemError, match="'updraft-gate-9', not 'updraft-gate-1'"):
        Gate.from_bytes((tmp_path / "gate.npz").read_bytes())
    np.savez(tmp_path / "gate.npz", format=np.array("updraft-gate-1"), experts=np.array(["a"]))
    with pytest.raises(ProblemError, match="0 layers"):
        Gate.from_bytes((tmp_path / "gate.npz").read_bytes())
    np.savez(tmp_path / "gate.npz", format=np.array([{}], dtype=object))
    with pytest.raises(ProblemError, match="damaged or no gate"):
        Gate.from_bytes((tmp_path / "gate.npz").read_bytes())


# Bad input


def test_bad_values_are_named_with_row_and_column():
    features, _, answers = task(prompts=20)
    bad = features.copy()
    bad[3, 2] = np.nan
    with pytest.raises(ProblemError, match="features: row 3, column 2 is nan"):
        fit_gate(bad, answers, IDS)
    for value in (1.5, -0.1):
        worse = answers.copy()
        worse[7, 1] = value
        with pytest.raises(ProblemError, match=f"quality: row 7, column 1 is {value}"):
            fit_gate(features, worse, IDS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"features": np.zeros((19, 6))}, "19 rows, quality 20"),
        ({"features": np.zeros(20)}, "shape"),
        ({"features": [[1.0], [1.0, 2.0]]}, "not a matrix of numbers"),
        ({"experts": ("ant", "bee")}, "2 experts for 4 columns"),
        ({"experts": ("ant", "bee", "cat", "cat")}, "every id must be there once"),
        ({"hidden": -1}, "hidden is -1"),
        ({"ridges": ()}, "one or more are needed"),
        ({"ridges": (0.0,)}, "above 0"),
        ({"calibration_share": 0.6}, "at most 0.5"),
        ({"text": TextFeatures(width=5)}, "5 columns, the gate reads 6"),
    ],
)
def test_what_cannot_be_trained_is_refused(change, message):
    features, _, answers = task(prompts=20)
    given_ = {"features": features, "quality": answers, "experts": IDS, **change}
    with pytest.raises(ProblemError, match=message):
        fit_gate(**given_)


def test_too_few_prompts_are_refused():
    features, _, answers = task(prompts=9)
    with pytest.raises(ProblemError, match="9 prompts; a gate needs at least 10"):
        fit_gate(features, answers, IDS)


def test_what_a_gate_cannot_be_asked():
    gate = gate_of(np.zeros((5, 4)))
    with pytest.raises(ProblemError, match="3 columns, this gate was trained on 5"):
        gate.quality(np.zeros((2, 3)))
    with pytest.raises(ProblemError, match="at least one expert must be on"):
        gate.route(np.eye(5), np.zeros(4, bool))
    with pytest.raises(ProblemError, match="must say True or False"):
        gate.route(np.eye(5), [0, 1])
    with pytest.raises(ProblemError, match="temperature is 0"):
        gate.weights(np.eye(5), np.ones(4, bool), 0)
    with pytest.raises(ProblemError, match="'eel' is unknown to the gate"):
        gate.mask(["ant", "eel"])
    with pytest.raises(ProblemError, match="quality is"):
        score(gate, np.eye(5), np.zeros((5, 3)))
