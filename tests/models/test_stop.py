"""Stop rules: fitted, calibrated, and kept in the bundle."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from updraft.models.bundle import open_bundle
from updraft.models.manifest import Manifest, StopRule
from updraft.models.recipes.prompts import Prompt
from updraft.models.stop import at_line_start, chance_wrong, first_line, fit_stop_rule, surprise_of
from updraft.models.stop_fit import add_stop_rules, watch_lines

RULES = st.builds(
    StopRule,
    layer=st.just(2),
    surprise=st.floats(0, 1e6),
    doubt=st.floats(0, 1e6),
    fresh=st.floats(-1e6, 1e6),
    intercept=st.floats(-1e6, 1e6),
)
NATS = st.floats(0, 1000)


def draw(rule, count=200_000):
    rng = np.random.default_rng(0)
    surprise, doubt = rng.exponential(1, count), rng.exponential(4, count)
    fresh = rng.random(count) < 0.5
    chance = [chance_wrong(rule, *row) for row in zip(surprise, doubt, fresh, strict=True)]
    return surprise, doubt, fresh, rng.random(count) < chance


@pytest.fixture(scope="module")
def seen(bundle):
    """What the shipped bundle's exits see on some of its held-out prompts."""
    rows = bundle.path("prompts.jsonl").read_text("utf-8").splitlines()[::4]
    return watch_lines(bundle, [Prompt(**json.loads(row)) for row in rows])


def test_a_fit_finds_what_the_data_were_drawn_from():
    truth = StopRule(layer=3, surprise=0.6, doubt=0.35, fresh=1.2, intercept=-1.5)
    found = fit_stop_rule(3, *draw(truth))
    assert found.model_dump() == pytest.approx(truth.model_dump(), abs=0.05)


@pytest.mark.parametrize("wrong", [np.zeros(50, bool), np.ones(50, bool)])
def test_lines_that_are_all_alike_give_no_rule(wrong):
    rows = np.linspace(0, 1, 50)
    assert fit_stop_rule(3, rows, rows, rows > 0.5, wrong) is None


def test_an_exit_that_is_right_when_unsure_gets_no_rule():
    surprise, doubt, fresh, wrong = draw(
        StopRule(layer=3, surprise=1, doubt=0.5, fresh=0, intercept=-2), 5000
    )
    assert fit_stop_rule(3, surprise, doubt, fresh, ~wrong) is None


@given(RULES, NATS, NATS, NATS, NATS, st.booleans())
def test_the_chance_rises_with_surprise_and_with_doubt(rule, s, t, d, e, fresh):
    (s, t), (d, e) = sorted((s, t)), sorted((d, e))
    assert 0 <= chance_wrong(rule, s, d, fresh) <= chance_wrong(rule, t, e, fresh) <= 1


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_surer_exit_surprises_less(p, q):
    p, q = sorted((p, q))
    assert surprise_of(q) <= surprise_of(p)
    assert surprise_of(1.0) == 0 <= surprise_of(q)


def test_a_probability_that_is_no_number_surprises_most():
    assert surprise_of(float("nan")) == surprise_of(0.0)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"a + b\nreturn", b"a + b"),
        (b"\n\n    x = 1\n", b"\n\n    x = 1"),
        (b"    x = 1", None),
        (b"\n   \n", None),
        (b"", None),
    ],
)
def test_a_line_ends_where_it_breaks_after_something(text, line):
    assert first_line(text) == line


@pytest.mark.parametrize(
    ("prompt", "fresh"),
    [("x = 1\n", True), ("def f():\n    ", True), ("x = ", False), ("  ", True)],
)
def test_a_line_starts_behind_a_line_break_and_indentation(prompt, fresh):
    assert at_line_start(prompt) is fresh


def test_the_shipped_bundle_has_a_rule_for_each_exit_on_the_edge(bundle):
    edge = [entry.layer for entry in bundle.manifest.edge_exits]
    assert [rule.layer for rule in bundle.manifest.stop_rules] == edge


def test_shipped_rules_are_right_as_often_as_they_say(bundle, seen):
    for rule, surprise in zip(bundle.manifest.stop_rules, seen.surprise, strict=True):
        rows = zip(surprise, seen.doubt, seen.fresh, strict=True)
        chance = np.array([chance_wrong(rule, *row) for row in rows])
        assert chance.mean() == pytest.approx(seen.wrong.mean(), abs=0.06)
        sure = chance >= 0.98
        assert seen.wrong[sure].mean() > 0.94
        assert seen.wrong[sure].mean() > seen.wrong[~sure].mean()


def test_watching_counts_doubt_from_the_deepest_exit_and_from_each_line_start(seen):
    deepest = seen.surprise[-1]
    for line in np.unique(seen.line):
        rows = np.flatnonzero(seen.line == line)
        assert seen.doubt[rows[0]] == 0
        grown = seen.doubt[rows[:-1]] + deepest[rows[:-1]]
        assert all(
            after == pytest.approx(before) or (after == 0 and fresh)
            for before, after, fresh in zip(
                grown, seen.doubt[rows[1:]], seen.fresh[rows[1:]], strict=True
            )
        )


def test_rules_keep_the_fingerprint_and_the_rest_of_the_manifest(bundle, tiny_bundle, folder):
    rules = bundle.manifest.stop_rules[:1]
    tiny = open_bundle(folder)
    before = tiny.manifest.model_dump(exclude={"stop_rules"})
    found = add_stop_rules(tiny, [Prompt("def add", "(a, b):\n    return", "a.py", False)])
    assert found.manifest.stop_rules == []  # random weights complete no line: nothing to tell from
    assert found.manifest.model_dump(exclude={"stop_rules"}) == before
    ruled = found.manifest.model_copy(
        update={"stop_rules": [rules[0].model_copy(update={"layer": 1})]}
    )
    assert Manifest.model_validate(ruled.model_dump()) == ruled
    assert found.fingerprint == tiny_bundle.fingerprint


def test_prompts_without_a_whole_line_give_no_rule(folder):
    assert add_stop_rules(open_bundle(folder), []).manifest.stop_rules == []


@pytest.mark.parametrize("layers", [[3, 3], [8], [5]])
def test_rules_belong_to_one_exit_on_the_edge_each(bundle, layers):
    rule = bundle.manifest.stop_rules[0]
    rules = [rule.model_copy(update={"layer": layer}).model_dump() for layer in layers]
    with pytest.raises(ValidationError, match="stop_rules"):
        Manifest.model_validate({**bundle.manifest.model_dump(), "stop_rules": rules})
