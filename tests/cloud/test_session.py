"""One session by itself: what it answers, and that order and repetition of frames do not matter."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from updraft.cloud.events import NeedFrom, Token, Verdict
from updraft.cloud.foreseen import Replacement
from updraft.cloud.inputs import DamagedInputs
from updraft.errors import ProtocolError
from updraft.models.sampling import Sampling

PROMPT = [5, 9, 2, 14, 7, 7, 30, 101, 55, 3]
SAMPLED = Sampling(0.9, 8)
BOTH = pytest.mark.parametrize("tokens", [False, True])


def wrong(token):
    return (token + 1) % 200


@BOTH
@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED])
def test_drafts_that_are_right_are_confirmed(
    open_session, terms, writer, run, tokens_of, sampling, tokens
):
    of = terms(sampling, tokens=tokens)
    edge, session = writer(of), open_session(of)
    text = edge.complete(PROMPT, 18)
    session.put(**edge.frame(text, 0, 12, drafts=3))
    assert run(session) == [], "nobody asked yet"
    session.put(**edge.frame(text, 12, 16, drafts=4, flush=True))
    (verdict,) = run(session)
    assert (verdict.epoch, verdict.position, verdict.rejected) == (0, 9, False)
    assert tokens_of([verdict]) == text[10:17]
    assert verdict.cost.computed_positions == 16
    assert session.epoch == 0


@BOTH
def test_a_wrong_draft_is_replaced_and_what_follows_it_is_dropped(
    open_session, terms, writer, run, tokens_of, tokens
):
    of = terms(SAMPLED, tokens=tokens)
    edge, session = writer(of), open_session(of)
    text = edge.complete(PROMPT, 20)
    drafted = [*text[:11], wrong(text[11]), *text[12:]]
    session.put(**edge.frame(drafted, 0, 14, drafts=5, flush=True))
    (verdict,) = run(session)
    assert (verdict.position, verdict.rejected) == (9, True)
    assert tokens_of([verdict]) == text[10:12]
    assert (session.epoch, session.inputs.length, session.computed) == (1, 11, 11)
    session.put(**edge.frame(drafted, 14, 16, drafts=2, flush=True))
    assert run(session) == [], "a frame of the old epoch"
    session.put(**edge.frame(text, 11, 15, drafts=4, epoch=1, flush=True))
    (verdict,) = run(session)
    assert (verdict.epoch, verdict.position, verdict.rejected) == (1, 11, False)
    assert tokens_of([verdict]) == text[12:16]


@BOTH
@pytest.mark.parametrize("early", [True, False])
def test_what_was_sent_for_a_foreseen_replacement_is_judged_at_once(
    open_session, terms, writer, run, tokens_of, tokens, early
):
    of = terms(SAMPLED, tokens=tokens)
    edge, session = writer(of), open_session(of)
    text = edge.complete(PROMPT, 20)
    drafted = [*text[:11], wrong(text[11]), *text[12:]]
    kept = edge.frame(text, 11, 14, drafts=3, epoch=1, flush=True)
    for token in (text[11], wrong(text[11]), text[11]):
        if early:
            session.put(**kept, if_replaced=Replacement(10, token))
    session.put(**edge.frame(drafted, 0, 14, drafts=5, flush=True))
    (first, *later) = run(session)
    assert (first.epoch, first.position, first.rejected) == (0, 9, True)
    if not early:
        session.put(**kept, if_replaced=Replacement(10, wrong(text[11])))
        assert not session.is_ready, "it ended otherwise"
        session.put(**kept, if_replaced=Replacement(10, text[11]))
        later = run(session)
    (second,) = later
    assert (second.epoch, second.position, second.rejected) == (1, 11, False)
    assert tokens_of([first, second]) == text[10:15]


def test_what_was_foreseen_is_forgotten_when_the_epoch_ends_otherwise(
    open_session, terms, writer, run, tokens_of
):
    of = terms(SAMPLED)
    edge, session = writer(of), open_session(of)
    text = edge.complete(PROMPT, 20)
    frame = edge.frame(text, 11, 14, drafts=3, epoch=1, flush=True)
    session.put(**edge.frame(text, 0, 11, drafts=1))
    held = session.held_bytes
    session.put(**frame, if_replaced=Replacement(10, 1))
    assert session.held_bytes > held
    session.put(**frame | {"epoch": 2}, if_replaced=Replacement(10, 1))
    session.put(**frame, if_replaced=Replacement(10, 1))
    session.put(**edge.frame(text, 11, 13, drafts=2, epoch=1, flush=True))
    (verdict,) = run(session)
    assert tokens_of([verdict]) == text[12:14]
    assert session.inputs.length == 13
    with pytest.raises(ProtocolError, match="has 3 bytes"):
        session.put(**frame | {"payload": b"123", "epoch": 2}, if_replaced=Replacement(10, 1))


def test_a_committed_draft_that_differs_is_only_a_label(
    open_session, terms, writer, run, tokens_of
):
    of = terms()
    edge, session = writer(of), open_session(of)
    text = edge.complete(PROMPT, 11)
    drafted = [*text[:10], wrong(text[10])]
    drafted.append(edge.next(drafted))
    frame = edge.frame(drafted, 0, 11, drafts=2, committed=[True, False], flush=True)
    session.put(**frame)
    (verdict,) = run(session)
    assert tokens_of([verdict]) == [text[10], drafted[11]]
    assert not verdict.rejected
    assert session.epoch == 0


def test_an_ask_gets_the_token_after_the_inputs(open_session, terms, writer, run):
    of = terms(SAMPLED)
    edge, session = writer(of), open_session(of)
    text = edge.complete(PROMPT, 13)
    session.put(**edge.frame(text, 0, 10))
    session.ask(0, 10, 10)
    (first,) = run(session)
    assert isinstance(first, Token)
    assert (first.position, first.pick.token) == (10, text[10])
    assert first.cost.computed_positions == 10
    session.put(**edge.frame(text, 10, 12))
    session.ask(0, 12, 12)
    session.ask(0, 11, 11)
    assert [answer.pick.token for answer in run(session)] == [text[12], text[11]]


@pytest.mark.parametrize("prompt", [PROMPT, list(range(1, 61))])
def test_a_generation_is_the_whole_models_text(open_session, terms, writer, run, prompt):
    of = terms(SAMPLED)
    session = open_session(of)
    length = min(len(prompt) + 12, 64)
    session.generate(list(prompt), length - len(prompt))
    answers = run(session)
    text = writer(of).complete(prompt, length)
    assert 0 not in text[len(prompt) :], "it ends by its length"
    assert [*prompt, *(answer.pick.token for answer in answers)] == text
    assert [answer.last for answer in answers] == [False] * (len(answers) - 1) + [True]
    assert [answer.position for answer in answers] == list(range(len(prompt), length))
    assert not session.waits


def test_a_generation_ends_with_its_text(open_session, run):
    session = open_session()
    session.generate(list(PROMPT), 20)
    session._generation._ends = {run(session)[4].pick.token}
    again = open_session()
    again.generate(list(PROMPT), 20)
    again._generation._ends = session._generation._ends
    answers = run(again)
    assert answers[-1].last
    assert len(answers) <= 5


def test_a_generation_pauses_while_nobody_reads(open_session, run):
    session = open_session()
    session.generate(list(PROMPT), 3)
    session.paused = True
    assert run(session) == []
    assert session.waits
    session.paused = False
    assert len(run(session)) == 3


@pytest.mark.parametrize("share", [0.0, 0.05])
def test_a_session_of_logits_judges_nothing(open_session, terms, writer, layers, run, share):
    of = terms(logits_above=share)
    edge, session = writer(of), open_session(of)
    text = [*PROMPT, 1, 2, 3]
    session.put(**edge.frame(text, 0, 12, drafts=3, flush=True))
    (verdict,) = run(session)
    assert (session.epoch, verdict.rejected, len(verdict.picks)) == (0, False, 3)
    sequence = layers.upper.new_sequence()
    sequence.append(edge.states(text[:12]))
    top = layers.upper.top
    reference = layers.upper.heads.predict(top, sequence.advance(top)[9:]).logits
    for pick, logits in zip(verdict.picks, reference, strict=True):
        tokens, values = pick.logits
        if share == 0:
            assert tokens is None
            np.testing.assert_allclose(values, logits, rtol=1e-4, atol=1e-4)
        else:
            probable = np.exp(logits - logits.max()) >= share
            assert set(tokens) == set(np.flatnonzero(probable))
            np.testing.assert_allclose(values, logits[tokens], rtol=1e-4, atol=1e-4)


def test_a_prompt_runs_in_whole_pieces_before_anybody_asks(open_session, terms, writer, run):
    of = terms()
    edge, session = writer(of), open_session(of)
    text = edge.complete(PROMPT * 4, 45)
    session.put(**edge.frame(text, 0, 15))
    assert not session.is_ready
    session.put(**edge.frame(text, 15, 40, drafts=1))
    assert run(session) == []
    assert session.computed == 32
    session.put(**edge.frame(text, 40, 44, drafts=4))
    assert not session.is_ready, "what follows a draft is speculative"


def test_what_was_spilled_is_computed_again_when_somebody_asks(open_session, terms, writer, run):
    edge, session = writer(terms()), open_session()
    session.put(**edge.frame([*PROMPT] * 4, 0, 32))
    run(session)
    assert session.computed == 32
    session.spill()
    session.put(**edge.frame([*PROMPT] * 4, 32, 38))
    assert not session.is_ready
    session.ask(0, 38, 38)
    (answer,) = run(session)
    assert answer.cost.computed_positions == 32 + 38


def test_what_comes_during_a_pass_waits_for_the_next(open_session, terms, writer, run, tokens_of):
    of = terms(SAMPLED)
    edge, session = writer(of), open_session(of)
    text = edge.complete(PROMPT, 20)
    rest = [edge.frame(text, at, at + 1, drafts=1, flush=True) for at in range(10, 18)]
    session.put(**edge.frame(text, 0, 10, drafts=1, flush=True))

    def during():
        if rest:
            session.put(**rest.pop(0))

    verdicts = run(session, during=during)
    assert tokens_of(verdicts) == text[10:19]
    assert len(verdicts) > 1


def test_a_client_that_takes_back_inputs_during_a_pass_gets_no_answer_about_them(
    open_session, terms, writer, run, tokens_of
):
    of = terms()
    edge, session = writer(of), open_session(of)
    text = edge.complete(PROMPT, 16)
    session.put(**edge.frame(text, 0, 14, drafts=5, flush=True))
    other = [*text[:12], wrong(text[12])]
    other.append(edge.next(other))
    later = [edge.frame(other, 12, 13, drafts=1, epoch=1, flush=True)]

    def during():
        if later:
            session.put(**later.pop())

    first, second = run(session, during=during)
    assert (first.position, tokens_of([first])) == (9, text[10:12])
    assert (second.epoch, second.position, tokens_of([second])) == (1, 12, [other[13]])


def test_a_session_may_be_resumed_while_a_pass_runs(open_session, terms, writer, forward, run):
    of = terms(SAMPLED)
    edge, session = writer(of), open_session(of)
    text = edge.complete(PROMPT, 16)
    session.put(**edge.frame(text, 0, 14, drafts=5, flush=True))
    session.make_context()
    work = session.take(CHUNK)
    assert session.resume(1, 11, edge.hash(text, 11))
    other = [*text[:11], wrong(text[11])]
    session.put(**edge.frame(other, 11, 12, epoch=1))
    session.ask(1, 12, 12)
    assert session.settle(work, forward.run([work]).picks[0], 1.0) == []
    assert session.computed == 11
    (answer,) = run(session)
    assert answer.pick.token == edge.next(other)


def test_a_moved_window_replaces_everything_in_whatever_order_it_comes(
    open_session, terms, writer, run, tokens_of
):
    of = terms(SAMPLED)
    edge, session = writer(of), open_session(of)
    text = edge.complete(PROMPT, 20)
    session.put(**edge.frame(text, 0, 16))
    session.ask(0, 16, 16)
    run(session)
    moved = [*text[:16], edge.next(text[:16], window_start=8)]
    session.put(**edge.frame(moved, 4, 8, 1, epoch=1, window_start=8, flush=True))
    assert not session.is_ready, "the first positions of the window are missing"
    session.put(**edge.frame(moved, 0, 4, epoch=1, window_start=8))
    (verdict,) = run(session)
    assert (verdict.position, tokens_of([verdict])) == (7, [moved[16]])
    assert not verdict.rejected


def test_missing_inputs_are_named(open_session, terms, writer):
    edge, session = writer(terms()), open_session()
    text = edge.complete(PROMPT, 20)
    assert session.missing() is None
    session.put(**edge.frame(text, 0, 4))
    session.put(**edge.frame(text, 8, 12, drafts=2))
    assert session.missing() is None, "nobody asked yet"
    session.put(**edge.frame(text, 12, 13, drafts=1, flush=True))
    assert session.missing() == NeedFrom(0, 4)
    session.put(**edge.frame(text, 2, 8))
    assert session.missing() is None
    session.ask(0, 14, 14)
    assert session.missing() == NeedFrom(0, 13)
    session.ask(3, 14, 14)
    assert session.missing() == NeedFrom(3, 0)


@BOTH
@pytest.mark.parametrize("codec", ["fp32", "fp16"])
def test_a_spilled_session_goes_on_exactly(
    open_session, terms, writer, run, tokens_of, codec, tokens
):
    of = terms(SAMPLED, codec, tokens=tokens)
    edge, session = writer(of), open_session(of)
    text = edge.complete(PROMPT, 24)
    session.put(**edge.frame(text, 0, 12, drafts=3, flush=True))
    assert tokens_of(run(session)) == text[10:13]
    held = session.held_bytes
    session.spill()
    assert session.held_bytes < held / 4
    session.put(**edge.frame(text, 12, 16, drafts=4, flush=True))
    (verdict,) = run(session)
    assert tokens_of([verdict]) == text[13:17]
    assert verdict.cost.computed_positions == 16, "the context was computed again"


def test_a_damaged_payload_is_an_error(open_session, terms, writer, run):
    edge, session = writer(terms()), open_session()
    session.put(**edge.frame(PROMPT, 0, 8))
    session.ask(0, 8, 8)
    run(session)
    session.spill()
    frame = session.inputs._frames[0]
    frame.payload = frame.payload[:-1] + bytes([frame.payload[-1] ^ 1])
    session.ask(0, 8, 8)
    session.make_context()
    with pytest.raises(DamagedInputs, match="positions 0 to 8"):
        session.take(CHUNK)
    with pytest.raises(DamagedInputs):
        session.resume(1, 8, edge.hash(PROMPT, 8))


CHUNK = 16


def test_a_session_that_lost_its_inputs_asks_for_them_once(open_session, terms, writer, run):
    edge, session = writer(terms()), open_session()
    text = edge.complete(PROMPT, 12)
    session.put(**edge.frame(text, 0, 8))
    session.lose()
    assert session.held_bytes == 0
    assert session.put(**edge.frame(text, 8, 11, drafts=2, flush=True)) == NeedFrom(0, 0)
    assert session.put(**edge.frame(text, 8, 11, drafts=2, flush=True)) is None
    assert session.put(**edge.frame(text, 0, 8)) is None
    (verdict,) = run(session)
    assert [pick.token for pick in verdict.picks] == text[10:12]


@BOTH
def test_a_session_is_resumed_by_those_who_know_its_inputs(
    open_session, terms, writer, run, tokens_of, tokens
):
    of = terms(SAMPLED, tokens=tokens)
    edge = writer(of)
    text = edge.complete(PROMPT, 20)

    def started():
        session = open_session(of)
        session.put(**edge.frame(text, 0, 14, drafts=4, flush=True))
        assert tokens_of(run(session)) == text[11:15]
        return session

    assert started().resume(1, 0, edge.hash(text, 0))
    assert not started().resume(1, 12, edge.hash([1, *text[1:]], 12)), "another text"
    assert not started().resume(1, 15, edge.hash(text, 15)), "it does not have as much"
    with pytest.raises(ProtocolError, match=r"resumed in epoch 2, the session is in 3"):
        session = started()
        session.put(**edge.frame(text, 14, 15, epoch=3))
        session.resume(2, 12, edge.hash(text, 12))
    session = started()
    assert session.resume(1, 12, edge.hash(text, 12))
    assert session.inputs.length == session.computed == 12
    session.put(**edge.frame(text, 11, 16, drafts=5, epoch=1, flush=True))
    (verdict,) = run(session)
    assert (verdict.epoch, verdict.position) == (1, 11)
    assert tokens_of([verdict]) == text[12:17]
    session.spill()
    assert session.resume(2, 16, edge.hash(text, 16)), "out of what was spilled"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"drafts": [1] * 5}, "5 drafts came after 4 inputs"),
        ({"drafts": [1], "committed": [True, True]}, "2 marks came beside 1 drafts"),
        ({"drafts": [], "committed": [True]}, "1 marks came beside 0 drafts"),
        ({"drafts": [10**6]}, "draft 1000000 is no token"),
        ({"position": 61}, "inputs up to position 65 exceed the context of 64"),
        ({"payload": b"123"}, "has 3 bytes"),
    ],
)
@BOTH
def test_a_frame_that_makes_no_sense_is_refused(
    open_session, terms, writer, changes, message, tokens
):
    of = terms(tokens=tokens)
    with pytest.raises(ProtocolError, match=message):
        open_session(of).put(**writer(of).frame(PROMPT, 0, 4) | changes)


def test_a_token_beyond_the_vocabulary_is_refused(open_session, terms, writer):
    of = terms(tokens=True)
    with pytest.raises(ProtocolError, match="token 99999 came"):
        open_session(of).put(**writer(of).frame([99999], 0, 1))


def test_too_many_asks_are_refused(open_session):
    session = open_session()
    with pytest.raises(ProtocolError, match="asks wait already"):
        for _ in range(100):
            session.ask(0, 3, 3)
    for length in (0, 65):
        with pytest.raises(ProtocolError, match=f"asked about {length} inputs"):
            open_session().ask(0, length, 0)


def test_a_session_is_used_in_one_way(open_session, terms, writer):
    edge, session = writer(terms()), open_session()
    session.generate(list(PROMPT), 2)
    for use in (lambda: session.put(**edge.frame(PROMPT, 0, 4)), lambda: session.ask(0, 1, 1)):
        with pytest.raises(ProtocolError, match="does not belong in a generation"):
            use()
    session = open_session()
    session.put(**edge.frame(PROMPT, 0, 4))
    with pytest.raises(ProtocolError, match="does not belong in a session in use"):
        session.generate(list(PROMPT), 2)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_neither_order_nor_repetition_nor_old_epochs_change_the_text(
    data, open_session, terms, writer, forward
):
    """A client drafts, wrongly at times; its frames come in any order, twice, and too late."""
    of = terms(SAMPLED, tokens=data.draw(st.booleans(), label="tokens"))
    edge, session = writer(of), open_session(of)
    wanted = edge.complete(PROMPT, 30)
    text, judged, epoch, old = list(PROMPT), len(PROMPT), 0, []
    sent = 0
    while judged < len(wanted):
        count = min(data.draw(st.integers(1, 6), label="drafts"), len(wanted) - judged)
        hits = data.draw(st.lists(st.booleans(), min_size=count, max_size=count), label="hits")
        for hit in hits:
            right = wanted[len(text)] if text == wanted[: len(text)] else 1
            text.append(right if hit else wrong(right))
        stop = len(text) - 1
        cuts = data.draw(st.sets(st.integers(sent, stop), max_size=4), label="cuts")
        bounds = sorted({sent, stop, *cuts})
        frames = [
            edge.frame(text, a, b, max(0, b - max(a, judged - 1)), epoch, flush=b == stop)
            for a, b in pairwise(bounds)
        ]
        again = data.draw(st.lists(st.sampled_from(frames), max_size=3), label="again")
        late = data.draw(st.lists(st.sampled_from(old), max_size=3), label="late") if old else []
        arriving = data.draw(st.permutations([*frames, *again, *late]), label="arriving")
        old += frames
        sent = stop
        for verdict in deliver(session, forward, arriving, data):
            assert isinstance(verdict, Verdict)
            assert (verdict.epoch, verdict.position) == (epoch, judged - 1)
            for pick in verdict.picks:
                assert pick.token == wanted[judged]
                judged += 1
            assert verdict.rejected == (text[judged - 1] != verdict.picks[-1].token)
            if verdict.rejected:
                text[judged - 1 :] = [verdict.picks[-1].token]
                epoch, sent = epoch + 1, judged - 1
        assert text == wanted[: len(text)]
        assert judged == len(text)


def deliver(session, forward, frames, data):
    """Put frames while passes start and finish at any time; returns the answers."""
    events, work = [], None
    for frame in frames:
        session.put(**frame)
        act = data.draw(st.sampled_from(["wait", "start", "finish"]), label="act")
        if act == "start" and work is None and session.is_ready:
            work = start(session)
        elif act == "finish" and work is not None:
            events += session.settle(work, forward.run([work]).picks[0], 1.0)
            work = None
    while work is not None or session.is_ready:
        work = work or start(session)
        events += session.settle(work, forward.run([work]).picks[0], 1.0)
        work = None
    return events


def start(session):
    if session.context is None:
        session.make_context()
    return session.take(CHUNK)
