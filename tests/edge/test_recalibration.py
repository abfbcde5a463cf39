"""A node's record follows what its answers take, by a clock of the test's own."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.usage import Usage
from updraft.edge.expert import CANCELLED, Answer
from updraft.edge.recalibration import Recalibration
from updraft.proto.v1 import fleet_pb2 as pb

RECORD = pb.CapabilityRecord(
    node="a",
    expert="e",
    revision=7,
    quality={"code": 0.5},
    prompt_tokens=10,
    first_token_ms=20,
    per_token_ms=4,
    prompt_j=0.5,
    per_token_j=0.1,
    concurrency=2,
)
LATER = 11.0


def took(slower=1.0, dearer=1.0, prompt_tokens=20, new_tokens=9, reason="length", alone=True):
    """Return an answer that took so many times what the record says."""
    prompts, further = prompt_tokens / RECORD.prompt_tokens, max(0, new_tokens - 1)
    first_ms = slower * RECORD.first_token_ms * prompts
    joules = dearer * (RECORD.prompt_j * prompts + RECORD.per_token_j * further)
    usage = Usage(first_ms + slower * RECORD.per_token_ms * further, joules)
    return Answer(reason, usage, first_ms, "counted", prompt_tokens, new_tokens, alone)


def after(*answers, every_s=LATER):
    """Return what a node has learned from answers."""
    recalibration = Recalibration(RECORD)
    for count, answer in enumerate(answers):
        recalibration.observe(answer, count * every_s)
    return recalibration


def test_a_record_that_holds_is_not_sent_again():
    assert after(*[took()] * 50).record is RECORD
    assert after(*[took(1.1, 0.9)] * 50).record is RECORD  # certain, and too little


def test_two_answers_prove_nothing():
    assert after(took(3.0, 3.0), took(3.0, 3.0)).record is RECORD


@pytest.mark.parametrize(("slower", "dearer"), [(3.0, 1.0), (1.0, 2.0), (0.4, 0.5)])
def test_a_node_that_has_changed_says_so(slower, dearer):
    record = after(*[took(slower, dearer)] * 20).record
    assert record.revision > RECORD.revision
    assert record.first_token_ms == pytest.approx(slower * RECORD.first_token_ms, rel=0.15)
    assert record.per_token_ms == pytest.approx(slower * RECORD.per_token_ms, rel=0.15)
    assert record.prompt_j == pytest.approx(dearer * RECORD.prompt_j, rel=0.15)
    assert record.per_token_j == pytest.approx(dearer * RECORD.per_token_j, rel=0.15)
    unlike = {"revision", "first_token_ms", "per_token_ms", "prompt_j", "per_token_j"}
    assert all(
        getattr(record, field.name) == getattr(RECORD, field.name)
        for field in pb.CapabilityRecord.DESCRIPTOR.fields
        if field.name not in unlike
    )


def test_a_node_that_changes_back_says_so_too():
    recalibration = after(*[took(3.0)] * 20, *[took()] * 300)
    assert recalibration.record.per_token_ms == pytest.approx(RECORD.per_token_ms, rel=0.2)


def test_records_are_some_time_apart():
    recalibration = Recalibration(RECORD)
    changes = []
    for count in range(400):
        before = recalibration.record
        recalibration.observe(took(1 + count / 40), count / 10)
        if recalibration.record is not before:
            assert recalibration.record.revision == before.revision + 1
            changes.append(count / 10)
    assert len(changes) >= 3
    assert all(b - a >= 10 for a, b in pairwise(changes))


@pytest.mark.parametrize(
    "answer",
    [took(5.0, alone=False), took(5.0, reason=CANCELLED), took(5.0, new_tokens=0)],
)
def test_what_is_no_whole_answer_of_its_own_teaches_nothing(answer):
    assert after(*[answer] * 50).record is RECORD


def test_a_meter_that_has_died_teaches_nothing():
    assert after(*[took(dearer=0.0)] * 50).record is RECORD


def test_a_declared_zero_stays():
    free = pb.CapabilityRecord(prompt_tokens=10, first_token_ms=20)
    recalibration = Recalibration(free)
    for count in range(20):
        recalibration.observe(took(3.0), count * LATER)
    assert recalibration.record.first_token_ms > 50
    assert recalibration.record.per_token_ms == recalibration.record.prompt_j == 0


def test_a_node_that_nobody_asks_any_more_is_tried_again():
    recalibration = after(*[took(3.0)] * 20)
    slow = recalibration.record
    recalibration.rest(20 * LATER)
    assert recalibration.record is slow
    recalibration.rest(20 * LATER + 3600)
    again = recalibration.record
    assert again.revision > slow.revision
    assert (again.first_token_ms, again.per_token_ms) == (20, 4)
    recalibration.rest(20 * LATER + 7200)
    assert recalibration.record is again


@given(
    st.lists(
        st.builds(
            took,
            st.floats(0, 1e6),
            st.floats(0, 1e6),
            st.integers(0, 1000),
            st.integers(0, 100),
            st.sampled_from(["length", CANCELLED]),
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_whatever_comes_the_record_stays_sane(answers):
    recalibration, last = Recalibration(RECORD), RECORD
    for count, answer in enumerate(answers):
        recalibration.observe(answer, count * LATER)
        record = recalibration.record
        assert record is last or record.revision > last.revision
        for field in ("first_token_ms", "per_token_ms", "prompt_j", "per_token_j"):
            assert 0 < getattr(record, field) < 1e9
        last = record
