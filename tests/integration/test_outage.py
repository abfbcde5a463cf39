"""Faults of the coordinator and of the link in the middle of generations: nothing is lost.

No test here depends on how fast the machine is: where a fault must hit a certain moment, the
device or the link is slowed down, or the test waits for what must come about.
"""

import random
import threading
import time
from concurrent import futures
from dataclasses import replace
from itertools import cycle

import grpc
import pytest

from updraft.benchmarks.collab.emulator import Emulator
from updraft.benchmarks.collab.wire import LOOPBACK, Link
from updraft.config.endpoint import parse_endpoint
from updraft.edge.link import Deadlines
from updraft.edge.request import GenerationRequest
from updraft.errors import LinkError, ProtocolError
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

_BEFORE = 5
_TOKENS = 48
# A text of the cloud's takes seconds to come down this.
_SLOW = Link(round_trip_ms=5, mbit_s=0.04)
_IMPATIENT = Deadlines(open_s=1, answer_s=1)
_WARM = {"temperature": 0.8, "seed": 4}
_REPAIR = {"outage": "repair", "repair_wait_s": 60}
# Modes whose text is that of `cloud`, and what makes it so.
_EXACT = {
    "lossless": {"max_tokens": _TOKENS},
    "ids": {"max_tokens": _TOKENS},
    "cloud": {"max_tokens": 200},
    "threshold": {"max_tokens": _TOKENS, "theta": 1.5},
}


class Phoenix:
    """A coordinator that comes back on the same port with empty memory, behind a link."""

    def __init__(self, daemon_of, *options):
        self._daemon_of = daemon_of
        self._options = options
        self._start(0)
        self.link = Emulator(parse_endpoint(self._daemon.address))
        self.address = str(self.link.endpoint)

    @property
    def is_dead(self):
        return self._daemon.process.poll() is not None

    def kill(self):
        self._daemon.kill()

    def rise(self):
        self._end()
        self._start(self._daemon.port)

    def hang(self):
        self._daemon.hang()

    def resume(self):
        self._daemon.resume()

    def close(self):
        self.link.close()
        self._end()

    def _start(self, port):
        address = f"127.0.0.1:{port}"
        self._daemon = self._daemon_of("cloud", "serve", "--listen", address, *self._options)

    def _end(self):
        log = self._daemon.close()
        assert "Traceback" not in log, log


@pytest.fixture(scope="module")
def bird(daemon_of):
    bird = Phoenix(daemon_of)
    yield bird
    bird.close()


@pytest.fixture
def phoenix(bird):
    """The module's coordinator, alive, behind a link without faults."""
    yield bird
    if bird.is_dead:
        bird.rise()
    bird.resume()
    bird.link.shape(LOOPBACK)


@pytest.fixture(scope="module")
def undisturbed(engine, complete):
    """Return a function that completes a prompt beside a coordinator that nothing happens to."""
    known = {}

    def run(prompt, **choices):
        key = prompt, *sorted(choices.items())
        if key not in known:
            known[key] = complete(engine, prompt, "cloud", **choices)
        return known[key]

    return run


def follow(generation, on_token=None, slow_s=0.0):
    """Run a generation to its end and check what streams out of it.

    Args:
        on_token: called with each token and the number of tokens so far.
        slow_s: what a token that was decoded alone takes longer, on a slow device.
    """
    given, text = [], []
    for token in generation:
        place = token.position - generation.prompt_tokens
        assert 0 <= place <= len(text), "a token was lost"
        assert not any(before.verified for before in text[place:]), "what was certain came again"
        given.append(token)
        text[place:] = [token]
        if not token.verified:
            time.sleep(slow_s)
        if on_token is not None:
            on_token(token, len(given))
    assert [token.token for token in text] == generation.result.tokens
    decisions = generation.result.decisions
    assert sum(decisions.values()) - decisions["stop"] == len(text)
    return given


def outage_of(generation, tokens):
    """Return which token was the first that was decoded alone, and which the first after those."""
    verified = [token.verified for token in tokens]
    lost = verified.index(False)
    if True not in verified[lost:]:
        assert generation.result.finish_reason == "stop", "there was time to come back"
        return lost, len(tokens)
    return lost, verified.index(True, lost)


class Fault:
    """Strikes after a few tokens, and is over once its effect has been seen."""

    def __init__(self, phoenix, strike, recover=None):
        self._phoenix = phoenix
        self._strike = strike
        self._recover = recover
        self.seen = False

    def __call__(self, token, count):
        if count == _BEFORE:
            self._strike()
        if not token.verified and not self.seen:
            self.seen = True
            self._phoenix.link.shape(LOOPBACK)
            if self._recover is not None:
                self._recover()


def fault(kind, phoenix):
    return {
        "kill": lambda: Fault(phoenix, phoenix.kill, phoenix.rise),
        "hang": lambda: Fault(phoenix, phoenix.hang, phoenix.resume),
        "blackout": lambda: Fault(phoenix, lambda: phoenix.link.black_out(1.8)),
        "cut": lambda: Fault(phoenix, lambda: phoenix.link.black_out(0.5, cut=True)),
    }[kind]()


@pytest.mark.parametrize(
    ("kind", "mode", "sampling"),
    [
        ("kill", "lossless", {}),
        ("kill", "lossless", _WARM),
        ("kill", "ids", _WARM),
        ("kill", "cloud", _WARM),
        ("kill", "threshold", {}),
        ("hang", "lossless", _WARM),
        ("hang", "cloud", {}),
        ("hang", "threshold", _WARM),
        ("blackout", "lossless", _WARM),
        ("blackout", "ids", {}),
        ("blackout", "cloud", _WARM),
        ("blackout", "threshold", {}),
        ("cut", "lossless", {}),
        ("cut", "cloud", {}),
    ],
)
def test_no_fault_changes_a_token(
    phoenix, start_engine, undisturbed, long_prompt, kind, mode, sampling
):
    choices = {**_EXACT[mode], **sampling}
    wanted = undisturbed(long_prompt, **{k: v for k, v in choices.items() if k != "theta"})
    deadlines = _IMPATIENT if kind in ("hang", "blackout") else Deadlines(open_s=30, answer_s=30)
    engine = start_engine(phoenix.address, deadlines=deadlines)
    if mode == "cloud":
        phoenix.link.shape(_SLOW)
    happening = fault(kind, phoenix)
    generation = engine.start(GenerationRequest(long_prompt, mode, **choices, **_REPAIR))
    follow(generation, happening)
    assert happening.seen
    assert generation.result.tokens == wanted.tokens
    assert (generation.result.text, generation.result.finish_reason) == (
        wanted.text,
        wanted.finish_reason,
    )
    assert generation.result.degraded
    assert generation.result.unverified_from is None


@pytest.mark.parametrize(
    ("mode", "sampling", "times"),
    [("lossless", _WARM, 20), ("ids", {}, 8), ("cloud", _WARM, 8), ("threshold", {}, 8)],
)
def test_a_link_that_is_cut_again_and_again_changes_no_token(
    phoenix, start_engine, undisturbed, snippets, mode, sampling, times
):
    """Many cuts at any moment: while drafting, waiting, alone, and while coming back."""
    choices = {**_EXACT[mode], **sampling, "max_tokens": _TOKENS}
    engine = start_engine(phoenix.address)
    chance, cuts = random.Random(mode), 0
    for prompt in cycle(snippets):
        wanted = undisturbed(prompt, **{k: v for k, v in choices.items() if k != "theta"})
        strikes = set(chance.sample(range(1, 2 * _TOKENS), 12))

        def cut(token, count, strikes=strikes):
            nonlocal cuts
            if count in strikes:
                phoenix.link.black_out(chance.choice([0, 0, 0.1]), cut=True)
                cuts += 1
                time.sleep(chance.choice([0, 0.002, 0.02]))

        generation = engine.start(GenerationRequest(prompt, mode, **choices, **_REPAIR))
        follow(generation, cut, slow_s=0.02)
        assert generation.result.tokens == wanted.tokens
        assert generation.result.text == wanted.text
        assert generation.result.unverified_from is None
        if cuts >= times:
            return


@pytest.mark.parametrize("mode", ["lossless", "threshold"])
def test_a_link_that_is_cut_while_nothing_moves_changes_no_token(
    phoenix, start_engine, undisturbed, long_prompt, mode
):
    """As above, but the cuts come by the clock, so in the middle of waits too."""
    choices = {**_EXACT[mode], **_WARM}
    wanted = undisturbed(long_prompt, **{k: v for k, v in choices.items() if k != "theta"})
    engine = start_engine(phoenix.address)
    phoenix.link.shape(Link(round_trip_ms=40, mbit_s=2))
    chance, over = random.Random(mode), threading.Event()

    def cut():
        for _ in range(6):
            if over.wait(chance.uniform(0.02, 0.6)):
                return
            phoenix.link.black_out(chance.choice([0, 0.1]), cut=True)

    cutter = threading.Thread(target=cut)
    cutter.start()
    try:
        generation = engine.start(GenerationRequest(long_prompt, mode, **choices, **_REPAIR))
        follow(generation, slow_s=0.02)
    finally:
        over.set()
        cutter.join()
    assert generation.result.tokens == wanted.tokens
    assert generation.result.unverified_from is None


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("mode", ["lossless", "cloud", "threshold"])
def test_a_fault_while_the_session_opens_changes_no_token(
    phoenix, start_engine, undisturbed, long_prompt, mode, cut
):
    choices = {**_EXACT[mode], "max_tokens": _TOKENS}
    wanted = undisturbed(long_prompt, max_tokens=_TOKENS)
    engine = start_engine(phoenix.address, deadlines=_IMPATIENT)
    engine.link.describe()  # it is connected
    phoenix.link.black_out(0.4 if cut else 1.5, cut=cut)
    generation = engine.start(GenerationRequest(long_prompt, mode, **choices, **_REPAIR))
    tokens = follow(generation)
    assert not tokens[0].verified
    assert generation.result.degraded
    assert generation.result.tokens == wanted.tokens
    assert generation.result.unverified_from is None


@pytest.mark.parametrize("mode", ["lossless", "threshold"])
def test_a_cut_while_a_prompt_goes_up_changes_no_token(
    phoenix, start_engine, undisturbed, engine, mode
):
    prompt = "x = [1, 2, 3]\n" * 40
    assert len(engine.tokenizer.encode(prompt)) > 256
    choices = {**_EXACT[mode], "max_tokens": 8}
    wanted = undisturbed(prompt, max_tokens=8)
    other = start_engine(phoenix.address)
    phoenix.link.shape(Link(round_trip_ms=5, mbit_s=0.5))

    def cut():
        phoenix.link.black_out(0, cut=True)
        phoenix.link.shape(LOOPBACK)

    timer = threading.Timer(0.5, cut)
    timer.start()
    generation = other.start(GenerationRequest(prompt, mode, **choices, **_REPAIR))
    follow(generation)
    timer.join()
    assert generation.result.tokens == wanted.tokens
    assert generation.result.degraded
    assert generation.result.unverified_from is None


@pytest.mark.parametrize("mode", ["lossless", "ids", "threshold", "cloud"])
def test_what_is_decoded_alone_stays_where_the_request_says_keep(
    phoenix, start_engine, undisturbed, long_prompt, wait_until, mode
):
    choices = {**_EXACT[mode], "max_tokens": 120}
    wanted = undisturbed(long_prompt, max_tokens=120)
    engine = start_engine(phoenix.address)
    if mode == "cloud":
        phoenix.link.shape(_SLOW)
    happening = fault("kill", phoenix)
    generation = engine.start(GenerationRequest(long_prompt, mode, **choices, outage="keep"))
    # As slow as the device may be: the text must not end before the coordinator is back.
    tokens = follow(generation, happening, slow_s=0.3)
    lost, again = outage_of(generation, tokens)
    assert all(token.verified for token in tokens[again:])
    start = generation.prompt_tokens
    assert [token.position for token in tokens] == list(range(start, start + len(tokens)))
    assert generation.result.tokens[:lost] == wanted.tokens[:lost]
    assert generation.result.degraded
    assert generation.result.unverified_from == start + lost


def test_with_keep_the_cloud_goes_on_from_what_was_decoded_alone(
    phoenix, start_engine, complete, long_prompt
):
    """The states of those tokens went up too: what follows is the whole model's continuation."""
    engine = start_engine(phoenix.address)
    happening = fault("cut", phoenix)
    request = GenerationRequest(long_prompt, "lossless", max_tokens=120, outage="keep")
    generation = engine.start(request)
    tokens = follow(generation, happening, slow_s=0.15)
    _, again = outage_of(generation, tokens)
    text = engine.tokenizer.encode(long_prompt) + [token.token for token in tokens[:again]]
    prompt = engine.tokenizer.decode(text)
    if engine.tokenizer.encode(prompt) != text or again == len(tokens):
        pytest.skip("this text cannot be asked for in another way")
    rest = complete(engine, prompt, "cloud", max_tokens=len(tokens) - again)
    assert rest.tokens == generation.result.tokens[again:]


def test_settled_never_goes_back(phoenix, start_engine, undisturbed, long_prompt):
    wanted = undisturbed(long_prompt, max_tokens=_TOKENS, **_WARM)
    engine = start_engine(phoenix.address)
    request = GenerationRequest(long_prompt, "lossless", max_tokens=_TOKENS, **_WARM, **_REPAIR)
    generation = engine.start(request)
    start, tokens = generation.prompt_tokens, []
    for token in generation.settled():
        tokens.append(token)
        if len(tokens) in (3, 20, 40):
            phoenix.link.black_out(0.1, cut=True)
    assert [token.token for token in tokens] == wanted.tokens
    assert [token.position for token in tokens] == list(range(start, start + _TOKENS))
    assert all(token.verified for token in tokens)
    assert "".join(token.text for token in tokens) == wanted.text
    assert generation.result.degraded


@pytest.mark.parametrize("mode", ["lossless", "cloud"])
def test_what_the_cloud_never_comes_back_for_is_given_at_the_end(
    phoenix, start_engine, long_prompt, mode
):
    engine = start_engine(phoenix.address)
    phoenix.kill()
    request = GenerationRequest(long_prompt, mode, max_tokens=_TOKENS, repair_wait_s=0.5)
    generation = engine.start(request)
    tokens = list(generation.settled())
    assert [token.token for token in tokens] == generation.result.tokens
    assert not any(token.verified for token in tokens)
    assert "".join(token.text for token in tokens) == generation.result.text
    assert generation.result.unverified_from == generation.prompt_tokens


@pytest.mark.parametrize("mode", ["cloud", "threshold", "lossless"])
def test_without_a_coordinator_and_without_a_wait_every_token_is_unverified(
    phoenix, start_engine, long_prompt, complete, mode
):
    phoenix.kill()
    engine = start_engine(phoenix.address)
    result = complete(engine, long_prompt, mode, theta=1.5, max_tokens=_TOKENS, repair_wait_s=0)
    assert len(result.tokens) == _TOKENS
    assert result.degraded
    assert result.unverified_from == len(engine.tokenizer.encode(long_prompt))
    assert result.cloud_calls == result.decisions["cloud"] == 0


def test_what_follows_the_kill_is_what_standalone_makes_of_it(
    phoenix, start_engine, long_prompt, complete
):
    engine = start_engine(phoenix.address)
    choices = {"theta": 0.0, "max_tokens": _TOKENS}
    alone = complete(engine, long_prompt, "standalone", **choices)
    generation = engine.start(GenerationRequest(long_prompt, "threshold", **choices))
    follow(generation, fault("kill", phoenix))
    assert generation.result.tokens == alone.tokens
    assert not generation.result.degraded, "no token needed the cloud"


@pytest.mark.parametrize("mode", ["lossless", "cloud", "threshold"])
def test_the_next_generation_collaborates_when_the_coordinator_is_back(
    phoenix, start_engine, long_prompt, complete, wait_until, mode
):
    engine = start_engine(phoenix.address)
    phoenix.kill()
    choices = {"theta": 1.5, "max_tokens": 4, "repair_wait_s": 0}
    assert complete(engine, long_prompt, mode, **choices).degraded
    phoenix.rise()

    def collaborates():
        result = complete(engine, long_prompt, mode, **choices)
        assert len(result.tokens) == 4
        return not result.degraded

    wait_until(collaborates)


def test_a_stop_string_in_what_is_decoded_alone_ends_nothing_that_is_mended(
    phoenix, start_engine, undisturbed, complete, long_prompt
):
    engine = start_engine(phoenix.address)
    wanted = undisturbed(long_prompt, max_tokens=_TOKENS)
    choices = {"max_tokens": _TOKENS, "wire": "fp16"}

    def strike(stop, wait_s):
        request = GenerationRequest(
            long_prompt, "lossless", stop=stop, repair_wait_s=wait_s, **choices
        )
        generation = engine.start(request)
        follow(generation, fault("kill", phoenix) if wait_s else kill)
        return generation.result

    def kill(token, count):
        if count == _BEFORE:
            phoenix.kill()

    alone = strike((), 0)
    phoenix.rise()
    assert alone.unverified_from is not None
    pieces = {alone.text[i : i + 3] for i in range(len(alone.text) - 3)}
    own = sorted(piece for piece in pieces if piece not in wanted.text)
    assert own, "the edge alone says the same as the whole model"
    mended = strike((own[0],), 60)
    assert mended.tokens == wanted.tokens
    assert (mended.text, mended.finish_reason) == (wanted.text, "length")


@pytest.mark.parametrize("on_stop", ["abstain", "escalate"])
def test_a_text_that_is_mended_stops_where_it_would_have(
    phoenix, start_engine, engine, complete, snippets, on_stop
):
    """A STOP of the edge alone is an end like any other: it waits for the cloud."""
    other = start_engine(phoenix.address)
    stopped = outages = 0
    for prompt in snippets:
        for stop_at, strike_at in ((0.9, 1), (0.97, 4)):
            choices = {"max_tokens": 32, "stop_at": stop_at, "on_stop": on_stop}
            wanted = complete(engine, prompt, "lossless", **choices)
            assert not wanted.degraded, "a STOP must not wait in vain"

            def cut(token, count, strike_at=strike_at):
                if count == strike_at:
                    phoenix.link.black_out(0, cut=True)

            generation = other.start(GenerationRequest(prompt, "lossless", **choices, **_REPAIR))
            follow(generation, cut, slow_s=0.01)
            result = generation.result
            assert (result.tokens, result.text) == (wanted.tokens, wanted.text)
            assert result.finish_reason == wanted.finish_reason
            assert result.unverified_from is None
            stopped += result.decisions["stop"]
            outages += result.degraded
    assert stopped
    assert outages


def test_an_outage_that_outlasts_the_context_changes_no_token(
    sliding_bundle, daemon_of, start_engine, complete
):
    """The window slides while the edge is alone, and slides back when its text is mended."""
    phoenix = Phoenix(daemon_of, "--bundle", sliding_bundle.folder)
    limit = sliding_bundle.manifest.architecture.context_length
    try:
        engine = start_engine(phoenix.address, of=sliding_bundle)
        for mode, sampling, strike_at, alone in (
            ("lossless", _WARM, 3, limit),
            ("lossless", {}, limit - 6, 2),
            ("lossless", {}, 2 * limit, limit),
            ("ids", {}, limit // 2, limit),
            ("threshold", {}, 3, limit),
            ("threshold", _WARM, limit - 6, limit // 2),
            ("cloud", {}, 3, limit),
        ):
            choices = {"max_tokens": 3 * limit, "wire": "fp32", **sampling}
            full = complete(engine, "def ", "full", **choices)
            assert len(full.tokens) > strike_at

            def on_token(token, count, strike_at=strike_at, alone=alone):
                if count == strike_at:
                    phoenix.link.black_out(3600, cut=True)
                if count == strike_at + alone:
                    phoenix.link.black_out(0, cut=True)  # it is over

            request = GenerationRequest("def ", mode, theta=1.5, **choices, **_REPAIR)
            generation = engine.start(request)
            follow(generation, on_token)
            assert generation.result.tokens == full.tokens
            assert generation.result.degraded
            assert generation.result.unverified_from is None
    finally:
        phoenix.close()


def test_an_end_of_text_that_the_edge_alone_says_ends_nothing_that_is_mended(
    tiny_bundle, daemon_of, start_engine, complete
):
    phoenix = Phoenix(daemon_of, "--bundle", tiny_bundle.folder)
    manifest = tiny_bundle.manifest
    choices = {"max_tokens": 40, "wire": "fp32", "mode": "lossless"}

    def kill(token, count):
        if count == _BEFORE:
            phoenix.kill()

    try:
        engine = start_engine(phoenix.address, of=tiny_bundle)
        full = complete(engine, "def ", "full", max_tokens=40, wire="fp32")
        generation = engine.start(GenerationRequest("def ", **choices, repair_wait_s=0))
        follow(generation, kill)
        own = next(t for t in generation.result.tokens[_BEFORE:] if t not in full.tokens)
        phoenix.rise()
        # The token's meaning is the edge's business: the coordinator decodes nothing here.
        tokenizer = manifest.tokenizer.model_copy(update={"end_of_text": own})
        ending = replace(tiny_bundle, manifest=manifest.model_copy(update={"tokenizer": tokenizer}))
        engine = start_engine(phoenix.address, of=ending)
        generation = engine.start(GenerationRequest("def ", **choices, **_REPAIR))
        tokens = follow(generation, fault("kill", phoenix))
        assert own in [token.token for token in tokens]
        assert generation.result.tokens == full.tokens
        assert generation.result.finish_reason == "length"
    finally:
        phoenix.close()


@pytest.mark.parametrize("mode", ["lossless", "cloud", "threshold"])
def test_a_generation_is_cancelled_in_the_middle_of_an_outage(
    phoenix, start_engine, long_prompt, wait_until, mode
):
    engine = start_engine(phoenix.address)
    phoenix.link.shape(_SLOW if mode == "cloud" else LOOPBACK)
    request = GenerationRequest(long_prompt, mode, **_EXACT[mode], **_REPAIR)
    generation = engine.start(request)

    def on_token(token, count):
        if count == _BEFORE:
            phoenix.link.black_out(3600, cut=True)
        if not token.verified:
            generation.cancel()

    tokens = follow(generation, on_token)
    assert [token.verified for token in tokens].count(False) == 1
    assert generation.result.finish_reason == "cancelled"
    assert generation.result.unverified_from == tokens[-1].position
    phoenix.link.black_out(0, cut=True)
    wait_until(lambda: reaches_nobody(engine))


def reaches_nobody(engine):
    """Whether no session has a stream; raises nothing while the link comes back."""
    try:
        return engine.link.describe().sessions == 0
    except LinkError:
        return False


def test_a_complete_text_that_waits_for_the_cloud_can_be_cancelled(
    phoenix, start_engine, long_prompt
):
    engine = start_engine(phoenix.address)
    phoenix.kill()
    request = GenerationRequest(long_prompt, "lossless", max_tokens=4, repair_wait_s=3600)
    generation = engine.start(request)
    tokens = []
    for token in generation:
        tokens.append(token)
        if len(tokens) == 4:
            threading.Timer(0.2, generation.cancel).start()
    assert len(tokens) == 4
    assert generation.result.unverified_from == generation.prompt_tokens


@pytest.mark.parametrize("mode", ["lossless", "cloud", "threshold"])
def test_a_link_that_is_closed_leaves_the_edge_decoding_alone(
    phoenix, start_engine, long_prompt, mode
):
    engine = start_engine(phoenix.address)
    phoenix.link.shape(_SLOW if mode == "cloud" else LOOPBACK)
    choices = {**_EXACT[mode], "outage": "repair", "repair_wait_s": 3600}
    generation = engine.start(GenerationRequest(long_prompt, mode, **choices))

    def close(token, count):
        if count == _BEFORE:
            engine.link.close()

    tokens = follow(generation, close)
    assert len(tokens) == choices["max_tokens"]
    assert not tokens[-1].verified
    assert generation.result.unverified_from == generation.prompt_tokens + [
        token.verified for token in tokens
    ].index(False)


class Refusing(rpc.CollaborationServicer):
    """Opens every session and refuses what comes next, as a coordinator without memory does."""

    def __init__(self):
        self.opened = 0

    def Collaborate(self, request_iterator, context):  # noqa: N802  # the name on the wire
        next(request_iterator)
        self.opened += 1
        yield pb.CollaborateResponse(opened=pb.Opened(session_id="s", credit=512))
        next(request_iterator)
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no memory")


@pytest.fixture
def refusing():
    """A coordinator that opens sessions and then fails them."""
    service = Refusing()
    server = grpc.server(futures.ThreadPoolExecutor(4))
    rpc.add_CollaborationServicer_to_server(service, server)
    service.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield service
    server.stop(0).wait()


@pytest.mark.parametrize("mode", ["lossless", "cloud", "threshold"])
def test_a_coordinator_that_opens_sessions_and_fails_them_holds_no_text_up(
    refusing, start_engine, long_prompt, mode
):
    engine = start_engine(refusing.address)
    choices = {**_EXACT[mode], "max_tokens": 30, "outage": "repair", "repair_wait_s": 0.5}
    generation = engine.start(GenerationRequest(long_prompt, mode, **choices))
    tokens = follow(generation, slow_s=0.05)
    assert refusing.opened >= 2
    start = generation.prompt_tokens
    assert [token.position for token in tokens] == list(range(start, start + 30))
    assert not any(token.verified for token in tokens)
    assert generation.result.unverified_from == start


def test_a_session_that_expired_before_it_was_used_costs_no_request(
    start_coordinator, start_engine, long_prompt
):
    """The way back is open, but the device is so slow that the coordinator gives it up again."""
    daemon = start_coordinator()
    engine = start_engine(daemon.address)
    generation = engine.start(GenerationRequest(long_prompt, "cloud", max_tokens=400))
    steps = iter(generation)
    next(steps)
    daemon.kill()
    while next(steps).verified:
        pass
    start_coordinator(port=daemon.port, config="[sessions]\nidle_expiry_s = 0.1\n")
    for _ in range(5):
        time.sleep(0.4)
        next(steps)
    generation.cancel()
    assert list(steps) == []
    assert generation.result.degraded


@pytest.mark.parametrize("mode", ["cloud", "threshold", "lossless"])
def test_a_coordinator_with_another_model_is_an_error_and_never_a_fallback(
    tiny_bundle, coordinator_of_tiny, start_engine, mode
):
    generation = start_engine(coordinator_of_tiny.address).start(GenerationRequest("def ", mode))
    with pytest.raises(ProtocolError, match="give both the same bundle"):
        list(generation)
    assert generation.result.tokens == []


@pytest.fixture(scope="module")
def coordinator_of_tiny(daemon_of, tiny_bundle):
    daemon = daemon_of("cloud", "serve", "--listen", "127.0.0.1:0", "--bundle", tiny_bundle.folder)
    yield daemon
    daemon.close()


def test_a_coordinator_that_comes_back_with_another_model_is_an_error(
    tiny_bundle, start_coordinator, start_engine, long_prompt
):
    daemon = start_coordinator()
    engine = start_engine(daemon.address)
    generation = engine.start(GenerationRequest(long_prompt, theta=1.5, max_tokens=200))
    steps = iter(generation)
    next(steps)
    daemon.kill()
    assert not next(steps).verified
    start_coordinator("--bundle", tiny_bundle.folder, port=daemon.port)

    def slowly():
        for _ in steps:
            time.sleep(0.2)

    with pytest.raises(ProtocolError, match="give both the same bundle"):
        slowly()


def test_a_stop_string_does_not_wait_for_a_cloud_that_decodes_on(
    phoenix, start_engine, undisturbed, long_prompt
):
    engine = start_engine(phoenix.address, deadlines=Deadlines(open_s=30, answer_s=3600))
    text = undisturbed(long_prompt, max_tokens=200).text
    stop = text[8:12]
    phoenix.link.shape(_SLOW)
    generation = engine.start(GenerationRequest(long_prompt, "cloud", max_tokens=200, stop=(stop,)))
    for _ in generation:
        if stop in engine.tokenizer.decode(generation.result.tokens):
            phoenix.hang()
    assert generation.result.finish_reason == "stop"
    assert generation.result.text == text[: text.index(stop)]


@pytest.mark.parametrize("kind", ["kill", "cut"])
def test_bounded_keeps_what_it_committed_and_goes_on(
    phoenix, start_engine, complete, long_prompt, kind
):
    engine = start_engine(phoenix.address)
    guarantee = engine.bundle.manifest.guarantees[0]
    choices = {
        "epsilon": guarantee.epsilon,
        "wire": guarantee.wire,
        "temperature": guarantee.temperature,
        "max_tokens": min(64, guarantee.max_tokens),
    }
    wanted = complete(engine, long_prompt, "bounded", **choices)
    generation = engine.start(GenerationRequest(long_prompt, "bounded", **choices))
    assert generation.request.on_outage == "keep"
    tokens = follow(generation, fault(kind, phoenix), slow_s=0.15)
    lost, _ = outage_of(generation, tokens)
    assert generation.result.tokens[:lost] == wanted.tokens[:lost]
    assert generation.result.unverified_from == generation.prompt_tokens + lost
    mended = engine.start(GenerationRequest(long_prompt, "bounded", **choices, **_REPAIR))
    follow(mended, fault(kind, phoenix))
    assert mended.result.unverified_from is None
    if not engine.commitment(mended.request).wrong:  # else λ rose on the way
        assert mended.result.tokens == wanted.tokens
