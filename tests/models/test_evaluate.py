"""The figures of an evaluation: exact on synthetic data, and equal to a plain computation."""

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.models.card import render_card
from updraft.models.evaluate import Settings, compare_bundles, evaluate_bundle
from updraft.models.lines import OpenLine, Policy, complete_lines, draw_lines, verbatim_share
from updraft.models.recipes.corpus import SourceFile, part_of
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.scores import (
    THETA_GRID,
    Evaluation,
    calibration_error,
    clustered_error,
    score_cascade,
    score_exits,
    score_thetas,
    smallest_theta,
)
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer

EXITS = (2, 3, 8)


def synthetic(seed, tokens=500, vocabulary=5):
    """Exits that guess among few tokens, so that they often agree and are often right."""
    rng = np.random.default_rng(seed)
    shape = (len(EXITS), tokens)
    return Evaluation(
        exits=EXITS,
        truth=rng.integers(vocabulary, size=tokens),
        predicted=rng.integers(vocabulary, size=shape),
        probability=rng.random(shape),
        confidence=rng.random(shape),
        cross_entropy=rng.exponential(size=shape),
        file=np.sort(rng.integers(7, size=tokens)),
        is_test=rng.random(tokens) < 0.6,
        byte_count=rng.integers(1, 6, size=tokens),
    )


evaluations = st.builds(synthetic, st.integers(0, 2**32 - 1), st.integers(1, 300))


def test_confidence_that_keeps_its_word_has_no_calibration_error():
    rng = np.random.default_rng(0)
    confidence = rng.random(200_000)
    right = rng.random(200_000) < confidence
    assert calibration_error(confidence, right) < 0.01


@pytest.mark.parametrize(("confidence", "right", "error"), [(1.0, False, 1.0), (0.9, True, 0.1)])
def test_calibration_error_is_the_gap_of_a_single_bin(confidence, right, error):
    found = calibration_error(np.full(50, confidence), np.full(50, right))
    assert found == pytest.approx(error)


@given(evaluations)
def test_above_one_nothing_ends_on_the_edge(evaluation):
    (score,) = score_cascade(evaluation, [1.01])
    assert (score.edge, score.agreement) == (0, 1)
    assert score.accuracy == score_exits(evaluation)[-1].accuracy


@given(evaluations)
def test_at_zero_everything_ends_at_the_first_exit(evaluation):
    (score,) = score_cascade(evaluation, [0.0])
    first = score_exits(evaluation)[0]
    assert score.ended == {2: 1, 3: 0, 8: 0}
    assert (score.accuracy, score.agreement) == (first.accuracy, first.agreement)


@given(evaluations, st.floats(0, 1))
def test_cascade_takes_each_token_at_the_first_sure_exit(evaluation, theta):
    (score,) = score_cascade(evaluation, [theta])
    chosen = [
        next((i for i in (0, 1) if evaluation.confidence[i, t] >= theta), 2)
        for t in range(evaluation.tokens)
    ]
    said = evaluation.predicted[chosen, range(evaluation.tokens)]
    assert score.accuracy == pytest.approx(np.mean(said == evaluation.truth))
    assert score.agreement == pytest.approx(np.mean(said == evaluation.predicted[-1]))
    assert sum(score.ended.values()) == pytest.approx(1)
    assert score.edge + score.cloud_requests == pytest.approx(1)


@given(evaluations)
def test_a_higher_threshold_ends_no_more_on_the_edge(evaluation):
    edge = [score.edge for score in score_cascade(evaluation)]
    assert all(lower >= higher for lower, higher in pairwise(edge))


@given(evaluations, st.floats(0, 1))
def test_smallest_theta_reaches_the_target_and_none_below_does(evaluation, target):
    cascade = score_cascade(evaluation)
    theta = smallest_theta(cascade, target)
    assert theta in THETA_GRID
    for score in cascade:
        if score.theta == theta:
            assert score.agreement >= target
        elif score.theta < theta:
            assert score.agreement < target


@given(evaluations)
def test_tests_and_library_add_up_to_all(evaluation):
    parts = [evaluation.where(mask) for mask in (evaluation.is_test, ~evaluation.is_test)]
    everything = score_exits(evaluation)
    for index, score in enumerate(everything):
        right = sum(part.right[index].sum() for part in parts)
        assert score.accuracy == pytest.approx(right / evaluation.tokens)


@given(evaluations)
def test_theta_shares_fall_from_one_to_none(evaluation):
    scores = score_thetas(evaluation, [0.0, 0.5, 1.01])
    for layer, exit_score in zip(EXITS, score_exits(evaluation), strict=True):
        least, middle, most = (score for score in scores if score.layer == layer)
        assert (least.share, least.accuracy) == (1, exit_score.accuracy)
        assert least.share >= middle.share >= most.share == 0
        assert most.accuracy is None


def test_bits_per_byte_weigh_tokens_by_their_bytes():
    evaluation = synthetic(0)
    for index, score in enumerate(score_exits(evaluation)):
        bits = evaluation.cross_entropy[index].sum() / np.log(2)
        assert score.bits_per_byte == pytest.approx(bits / evaluation.byte_count.sum())


def test_tokens_that_copy_their_file_give_the_error_of_so_many_files():
    file_right = np.random.default_rng(0).random(400) < 0.3
    right, file = np.repeat(file_right, 25), np.repeat(np.arange(400), 25)
    expected = file_right.std(ddof=1) / np.sqrt(400)
    assert clustered_error(right, file) == pytest.approx(expected)
    assert clustered_error(right[:25], file[:25]) is None


# --- on a bundle ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def corpus():
    """Files of every part, some shorter and some longer than a context."""
    line = "for item in all_the_items:\n    print(item, 'é')\n"
    files = [
        SourceFile(
            f"{'test/' if n % 2 else ''}f{n}.py", line * (1 + n % 9) + f"# {n}\n", n % 2 == 1
        )
        for n in range(120)
    ]
    assert {part_of(file.path) for file in files} == {"train", "calibration", "heldout"}
    return files


def reference(model, tokenizer, text, context):
    """Score a text token by token from a fresh window each time: (exits, tokens) of entropies."""
    tokens = [tokenizer.end_of_text, *tokenizer.encode(text)]
    half, rows = context // 2, []
    for target in range(1, len(tokens)):
        start = max(0, -(-(target - context) // half) * half)
        sequence = model.new_sequence()
        sequence.append(tokens[start:target])
        row = []
        for layer in model.layers:
            logits = model.heads.predict(layer, sequence.advance(layer)[-1:]).logits[0]
            wide = logits.astype(np.float64)
            row.append(np.log(np.exp(wide - wide.max()).sum()) + wide.max() - wide[tokens[target]])
        rows.append(row)
    return np.array(rows).T


def test_every_held_out_token_counts_once_with_its_context(tiny_bundle, corpus):
    report = evaluate_bundle(tiny_bundle, corpus, Settings(lines=0))
    shape = tiny_bundle.manifest.architecture
    model = Model.load(tiny_bundle, range(shape.layers), RuntimeOptions())
    tokenizer = Tokenizer(tiny_bundle)
    heldout = [file for file in corpus if part_of(file.path) == "heldout"]
    assert any(len(tokenizer.encode(file.text)) > 2 * shape.context_length for file in heldout)
    expected = np.concatenate(
        [reference(model, tokenizer, f.text, shape.context_length) for f in heldout], axis=1
    )
    assert report.tokens == expected.shape[1]
    assert report.files == len(heldout)
    found = [score.cross_entropy for score in report.exits["all"]]
    assert found == pytest.approx(expected.mean(axis=1).tolist(), rel=1e-4)


def test_a_limited_run_keeps_the_limit_and_repeats_itself(tiny_bundle, corpus):
    settings = Settings(max_tokens=200, calibration_tokens=100, lines=5, seed=3)
    stages = set()
    first = evaluate_bundle(tiny_bundle, corpus, settings, lambda stage, *_: stages.add(stage))
    assert first.tokens <= 200
    assert first.calibration_tokens <= 100
    assert first == evaluate_bundle(tiny_bundle, corpus, settings)
    assert stages == {"calibration", "held-out tokens", "lines"}
    json.dumps(first.to_json(), allow_nan=False)


def test_a_bundle_agrees_with_itself(tiny_bundle, corpus):
    shares = compare_bundles(tiny_bundle, tiny_bundle, corpus, Settings(max_tokens=200))
    assert set(shares.values()) == {1.0}


def test_card_states_the_figures(tiny_bundle, corpus):
    report = evaluate_bundle(tiny_bundle, corpus, Settings(max_tokens=200, lines=5))
    card = render_card(tiny_bundle.manifest, report, {1: 0.98765})
    assert "98.77%" in card
    for score in report.exits["all"]:
        assert f"{score.bits_per_byte:.3f}" in card
    assert card.count("\n### ") == len(report.exits) + 4


# --- lines ---------------------------------------------------------------------------------


def test_lines_are_cut_inside_and_join_again(bundle):
    tokenizer = Tokenizer(bundle)
    text = "".join(f"    value_{n} = compute('é', {n}) + offset\nshort\n" for n in range(40))
    for line in draw_lines([SourceFile("f.py", text, False)], tokenizer, 64, 30, seed=1):
        before = b"".join(map(tokenizer.bytes_of, line.prompt.tolist()))
        whole = before.split(b"\n")[-1] + line.rest
        assert whole.decode() + "\n" in text
        assert line.rest
        assert whole.strip() != line.rest
        assert len(line.prompt) <= 64


def test_a_line_is_complete_when_greedy_decoding_writes_just_it(bundle):
    tokenizer = Tokenizer(bundle)
    model = Model.load(bundle, range(bundle.manifest.architecture.layers), RuntimeOptions())
    prompt = np.array(tokenizer.encode("import os\nimport re\nimport"))
    sequence, written = model.new_sequence(), b""
    sequence.append(prompt)
    while b"\n" not in written:
        sequence.advance(model.top)
        token = sequence.propose(model.top, Sampling(), sequence.length).token
        written += tokenizer.bytes_of(token)
        sequence.append([token])
    rest = written.split(b"\n")[0]
    full = Policy("full", (model.top,))
    never_sure = Policy("cascade", tuple(model.layers), theta=1.01)
    for line, share in (
        (OpenLine(prompt, rest), 1.0),
        (OpenLine(prompt, rest + b"x"), 0.0),
        (OpenLine(prompt, rest[:-1]), 0.0),
    ):
        scores = complete_lines(model, tokenizer, [line], [full, never_sure], lambda *_: None)
        assert [score.share for score in scores] == [share, share]


def test_verbatim_lines_are_counted_without_indentation():
    seen = [SourceFile("a.py", "    raise ValueError(message)\nx = 1\n", False)]
    unseen = [
        SourceFile("b.py", "raise ValueError(message)\nx = 1\nreturn another_value(1)\n", False)
    ]
    assert verbatim_share(unseen, seen) == 0.5
