"""STOP on the device: what it keeps of a text, and when it fires."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.edge.stopping import Stopping
from updraft.errors import RequestError
from updraft.models.recipes.prompts import Prompt
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model
from updraft.models.stop import at_line_start, chance_wrong
from updraft.models.stop_fit import watch_lines
from updraft.models.tokenizer import Tokenizer

LAYER = 3
STEPS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from([b"x", b" y", b"\n    "])), max_size=12)
NEVER = 2.0


@pytest.fixture(scope="module")
def manifest(bundle):
    return bundle.manifest


def follow(manifest, steps, stop_at=NEVER):
    """Take each step, whatever is decided; returns who follows and what was decided."""
    stopping = Stopping(manifest, stop_at, fresh=False)
    decided = []
    for probability, piece in steps:
        decided.append(stopping.stops(LAYER, probability))
        stopping.take(piece)
    return stopping, decided


def test_a_bundle_without_rules_says_so(manifest):
    with pytest.raises(RequestError, match="has no stop rules"):
        Stopping(manifest.model_copy(update={"stop_rules": []}), 0.9, fresh=True)


@given(STEPS, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_stop_at_never_stops_where_a_lower_one_does_not(manifest, steps, one, other):
    low, high = sorted((one, other))
    _, lax = follow(manifest, steps, high)
    _, strict = follow(manifest, steps, low)
    assert all(b or not a for a, b in zip(lax, strict, strict=True))


@given(STEPS)
def test_bounds_of_stop_at(manifest, steps):
    assert not any(follow(manifest, steps, 1.01)[1])
    assert all(follow(manifest, steps, 0.0)[1])


@given(STEPS, st.integers(0, 12), st.floats(0, 1), st.floats(0, 1))
def test_what_was_taken_back_leaves_no_trace(manifest, steps, count, probability, again):
    count = min(count, len(steps))
    stopping, _ = follow(manifest, [*steps, (probability, b"z")])
    stopping.take_back(count)
    fresh, _ = follow(manifest, steps[:count])
    # The place where the text was cut has been looked at already.
    fresh.stops(LAYER, [*steps, (probability, b"z")][count][0])
    assert stopping.chance_wrong(LAYER) == fresh.chance_wrong(LAYER)
    for one in (stopping, fresh):
        one.take(b"w")
        one.stops(LAYER, again)
    assert stopping.chance_wrong(LAYER) == fresh.chance_wrong(LAYER)


@given(STEPS)
def test_a_line_break_clears_doubt(manifest, steps):
    stopping, _ = follow(manifest, [*steps, (0.1, b":\n    ")])
    other = Stopping(manifest, NEVER, fresh=True)
    for one in (stopping, other):
        one.stops(LAYER, 0.5)
    assert stopping.chance_wrong(LAYER) == other.chance_wrong(LAYER)


def test_doubt_grows_with_every_unsure_token(manifest):
    stopping = Stopping(manifest, NEVER, fresh=False)
    chances = []
    for _ in range(5):
        stopping.stops(LAYER, 0.5)
        chances.append(stopping.chance_wrong(LAYER))
        stopping.take(b"x")
    assert chances == sorted(set(chances))


def test_an_exit_without_a_rule_never_stops(manifest):
    stopping = Stopping(
        manifest.model_copy(update={"stop_rules": manifest.stop_rules[:1]}), 0.5, fresh=True
    )
    assert not stopping.stops(LAYER, 1e-6)
    assert stopping.stops(manifest.stop_rules[0].layer, 1e-6)


def test_the_device_sees_what_the_rules_were_fitted_on(bundle):
    """Decoded by hand at full depth, every chance is the one that the fit would compute."""
    row = json.loads(bundle.path("prompts.jsonl").read_text("utf-8").splitlines()[1])
    seen = watch_lines(bundle, [Prompt(**row)])
    model, tokenizer = Model.load(bundle, range(8), RuntimeOptions()), Tokenizer(bundle)
    sequence = model.new_sequence()
    sequence.append(tokenizer.encode(row["prompt"]))
    stopping = Stopping(bundle.manifest, NEVER, at_line_start(row["prompt"]))
    for step, doubt in enumerate(seen.doubt):
        for rule, surprise in zip(bundle.manifest.stop_rules, seen.surprise[:, step], strict=True):
            sequence.advance(rule.layer)
            sequence.look(rule.layer)
            stopping.stops(rule.layer, sequence.probability)
            expected = chance_wrong(rule, surprise, doubt, bool(seen.fresh[step]))
            assert stopping.chance_wrong(rule.layer) == pytest.approx(expected)
        sequence.advance(model.top)
        token = sequence.propose(model.top, Sampling(), sequence.length).token
        stopping.take(tokenizer.bytes_of(token))
        sequence.append([token])
