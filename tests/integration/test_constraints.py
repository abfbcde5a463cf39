"""Constraints over the wire: every mode follows the grammar, exact modes with `full`'s tokens."""

import json
import runpy
import threading
from concurrent import futures
from pathlib import Path

import grpc
import numpy as np
import pytest

from updraft.config.endpoint import parse_endpoint
from updraft.devices.meters.modelled import ModelledMeter
from updraft.edge.engine import Engine
from updraft.edge.link import CloudLink, Deadlines
from updraft.edge.request import GenerationRequest
from updraft.errors import ProtocolError, RequestError
from updraft.models.constraint import Constraint, Grammars
from updraft.models.runtime import RuntimeOptions
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

_HERE = Path(__file__).parent
decode = runpy.run_path(str(_HERE.parent / "combined.py"))["decode"]
_SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["a", "bb", "ccc"]}, "maxItems": 3},
    },
    "required": ["name", "age", "tags"],
    "additionalProperties": False,
}
PERSON = Constraint("json_schema", json.dumps(_SCHEMA))
NAME = Constraint("regex", "(foo|bar)[0-9]{3}")
PROMPT = "person = "
WARM = {"temperature": 0.8, "seed": 1}
SAMPLINGS = [{}, WARM, {"temperature": 1.2, "seed": 5, "top_p": 0.9, "top_k": 40}]
EXACT = ["cloud", "lossless", "ids", "threshold"]
_TOKENS = 64
NONSENSE, REFUSED = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.INVALID_ARGUMENT


def is_person(text):
    person = json.loads(text)
    assert set(person) == {"name", "age", "tags"}
    assert len(person["name"]) <= 12
    assert 0 <= person["age"] <= 120
    assert set(person["tags"]) <= {"a", "bb", "ccc"}
    return True


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_exact_mode_gives_the_tokens_of_full(engine, complete, sampling):
    choices = {"constraint": PERSON, "max_tokens": _TOKENS, **sampling}
    full = complete(engine, PROMPT, "full", **choices)
    assert full.finish_reason == "stop"
    assert is_person(full.text)
    for mode in EXACT:
        result = complete(engine, PROMPT, mode, theta=1.5, **choices)
        assert result.tokens == full.tokens, mode
        assert (result.text, result.finish_reason) == (full.text, "stop")
        assert not result.degraded


@pytest.mark.parametrize("mode", ["standalone", "bounded", "threshold", "contrastive"])
@pytest.mark.parametrize("sampling", SAMPLINGS[:2])
def test_every_other_mode_follows_the_grammar(engine, complete, mode, sampling):
    for constraint in (NAME, Constraint("lark", 'start: "x=" NUM\nNUM: /[0-9]{2,4}/')):
        choices = {"constraint": constraint, "theta": 0.6, "max_tokens": 32, **sampling}
        result = complete(engine, PROMPT, mode, **choices)
        assert result.finish_reason == "stop"
        matcher = Grammars(engine.bundle, engine.tokenizer).matcher(constraint)
        matcher.follow(engine.tokenizer.encode(result.text))
        assert matcher.can_end
        assert not result.degraded


def test_what_the_grammar_fixes_costs_no_round_trip(engine, complete):
    constraint = Constraint("regex", "[01]" + "yes " * 8)
    result = complete(engine, PROMPT, "threshold", theta=1.5, constraint=constraint)
    assert result.text[1:] == "yes " * 8
    assert result.cloud_calls == 1
    assert result.decisions["grammar"] == len(result.tokens) - 1
    assert result.tokens == complete(engine, PROMPT, "full", constraint=constraint).tokens


@pytest.mark.parametrize("choices", [{"plausibility": 0.1}, {"plausibility": 0.0}])
@pytest.mark.parametrize("sampling", SAMPLINGS[:2])
def test_combined_modes_give_the_formulas_tokens(
    coordinator, engine, complete, tmp_path, choices, sampling
):
    tune = runpy.run_path(str(_HERE / "test_combined_modes.py"))["tune"]
    tuned = tune(engine.bundle, tmp_path / "tuned")
    link = CloudLink(parse_endpoint(coordinator.address), engine.bundle.fingerprint)
    small = Model.load(tuned, range(tuned.manifest.split), RuntimeOptions())
    own = Engine(engine.bundle, RuntimeOptions(), ModelledMeter(10), link, False, tuned)
    prompt = engine.tokenizer.encode(PROMPT)
    keyed = Sampling(sampling.get("temperature", 0.0), sampling.get("seed", 0))
    try:
        for mode, other in (("contrastive", None), ("proxy", small)):
            matcher = Grammars(engine.bundle, engine.tokenizer).matcher(NAME)
            wanted, _ = decode(
                engine.model,
                prompt,
                16,
                "fp16",
                keyed,
                share=choices["plausibility"],
                tuned=other,
                matcher=matcher,
            )
            asked = {"constraint": NAME, "max_tokens": 16, **choices, **sampling}
            assert complete(own, PROMPT, mode, **asked).tokens == wanted
    finally:
        link.close()


@pytest.mark.parametrize("mode", EXACT)
def test_a_window_that_slides_keeps_its_place_in_the_grammar(
    sliding_bundle, start_coordinator, start_engine, complete, mode
):
    daemon = start_coordinator("--bundle", sliding_bundle.folder)
    engine = start_engine(daemon.address, of=sliding_bundle)
    # As long as two contexts and more, and the end can only be right if all was counted.
    constraint = Constraint("regex", "([a-z]{7}[0-9]){20}!")
    choices = {"constraint": constraint, "max_tokens": 200, "wire": "fp32", **WARM}
    full = complete(engine, "def ", "full", **choices)
    assert len(full.text) == 161
    result = complete(engine, "def ", mode, theta=1.5, **choices)
    assert result.tokens == full.tokens
    assert not result.degraded


@pytest.mark.parametrize(
    ("mode", "sampling"), [("lossless", WARM), ("ids", {}), ("cloud", WARM), ("threshold", {})]
)
def test_an_outage_changes_no_token(
    daemon_of, start_engine, engine, complete, wait_until, mode, sampling
):
    phoenix = runpy.run_path(str(_HERE / "test_outage.py"))["Phoenix"](daemon_of)
    constraint = Constraint("regex", "([a-z]{3}[0-9] ){12}")
    choices = {"constraint": constraint, "max_tokens": 60, **sampling}
    full = complete(engine, PROMPT, "full", **choices)
    own = start_engine(phoenix.address)
    repair = {"outage": "repair", "repair_wait_s": 60, "theta": 1.5}
    try:
        generation, struck = own.start(GenerationRequest(PROMPT, mode, **choices, **repair)), False
        for count, token in enumerate(generation):
            if count == 3:
                phoenix.kill()
            if not token.verified and not struck:
                struck = True
                phoenix.rise()
        assert generation.result.tokens == full.tokens
        assert struck == generation.result.degraded
    finally:
        phoenix.close()


def test_a_stream_that_breaks_is_taken_up_in_its_place(start_coordinator, start_engine, complete):
    daemon = start_coordinator()
    cut = runpy.run_path(str(_HERE / "test_outage.py"))["Emulator"](parse_endpoint(daemon.address))
    constraint = Constraint("regex", "([a-z]{3}[0-9] ){12}")
    choices = {"constraint": constraint, "max_tokens": 60, "outage": "repair", **WARM}
    try:
        own = start_engine(str(cut.endpoint))
        wanted = complete(own, PROMPT, "full", constraint=constraint, max_tokens=60, **WARM)
        for mode in ("lossless", "threshold"):
            generation = own.start(GenerationRequest(PROMPT, mode, theta=1.5, **choices))
            for count, _ in enumerate(generation):
                if count == 6:
                    cut.black_out(0, cut=True)
            assert generation.result.tokens == wanted.tokens
    finally:
        cut.close()


@pytest.mark.parametrize("mode", EXACT)
def test_log_probabilities_are_those_of_the_whole_model(engine, complete, mode):
    def told(which):
        request = GenerationRequest(
            PROMPT, which, theta=1.5, max_tokens=12, logprobs=3, constraint=NAME, **WARM
        )
        return list(engine.start(request))

    for token, wanted in zip(told(mode), told("full"), strict=True):
        assert token.token == wanted.token
        assert token.logprob == pytest.approx(wanted.logprob, abs=1e-3)
        assert [other for other, _ in token.top_logprobs] == [t for t, _ in wanted.top_logprobs]
        assert len(token.top_logprobs) == 3
        assert token.logprob <= token.top_logprobs[0][1] + 1e-3 <= 1e-2


def test_nothing_is_told_unasked(engine):
    for token in engine.start(GenerationRequest(PROMPT, "lossless", max_tokens=4)):
        assert (token.logprob, token.top_logprobs) == (None, ())


@pytest.mark.parametrize("mode", EXACT)
def test_top_p_and_top_k_hold_on_both_sides(engine, complete, mode):
    choices = {"max_tokens": 24, "temperature": 1.5, "seed": 3, "top_p": 0.7, "top_k": 30}
    full = complete(engine, PROMPT, "full", **choices)
    assert complete(engine, PROMPT, mode, theta=1.5, **choices).tokens == full.tokens
    plain = {**choices, "top_p": 1.0, "top_k": None}
    assert complete(engine, PROMPT, "full", **plain).tokens != full.tokens


def test_a_prompt_may_come_as_tokens(engine, complete):
    tokens = tuple(engine.tokenizer.encode(PROMPT))
    wanted = complete(engine, PROMPT, "full", max_tokens=8)
    assert complete(engine, "", "full", prompt_tokens=tokens, max_tokens=8).tokens == wanted.tokens
    for wrong in ((), (-1,), (1 << 30,)):
        with pytest.raises(RequestError, match="prompt_tokens"):
            engine.start(GenerationRequest("", "full", prompt_tokens=wrong))


def test_a_constraint_that_cannot_be_used_is_refused_before_anything_is_computed(engine):
    wrong = Constraint("json_schema", '{"not": {}}')
    for mode in ("full", "standalone", "lossless", "cloud"):
        with pytest.raises(RequestError, match='"not"'):
            engine.start(GenerationRequest(PROMPT, mode, constraint=wrong))


class _OldCoordinator(rpc.CollaborationServicer):
    """Opens sessions as coordinators did that knew nothing of constraints."""

    def Collaborate(self, request_iterator, context):  # noqa: N802
        yield pb.CollaborateResponse(opened=pb.Opened(session_id="1", credit=256))
        threading.Event().wait(20)


@pytest.mark.parametrize(
    "choices", [{"constraint": NAME}, {"temperature": 1.0, "top_k": 5}, {"logprobs": 0}]
)
def test_an_older_coordinator_is_refused(bundle, choices):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    rpc.add_CollaborationServicer_to_server(_OldCoordinator(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    endpoint = parse_endpoint(f"127.0.0.1:{port}")
    link = CloudLink(endpoint, bundle.fingerprint, None, Deadlines(open_s=10, answer_s=10))
    try:
        own = Engine(bundle, RuntimeOptions(), ModelledMeter(10), link)
        with pytest.raises(ProtocolError, match="too old"):
            list(own.start(GenerationRequest(PROMPT, "lossless", **choices)))
    finally:
        link.close()
        server.stop(0)


@pytest.fixture
def said(stub, bundle):
    """Return a function that opens a session, sends frames and gives the status it ends with."""

    def say(opening, *frames):
        sound = {"protocol": 1, "fingerprint": bundle.fingerprint, "codec": 1, "inputs": 1}
        first = pb.CollaborateRequest(open=pb.Open(**(sound | opening)))
        requests = [first, *frames, pb.CollaborateRequest(close=pb.Close())]
        try:
            return list(stub.Collaborate(iter(requests), timeout=30))
        except grpc.RpcError as error:
            return error.code(), error.details()

    return say


def constrained(kind="regex", text="abc", start=2):
    return {"constraint": pb.Constraint(kind=kind, text=text, start=start)}


def states(inputs, position=0, **others):
    payload = np.array(inputs, "<u4").tobytes()
    frame = pb.States(position=position, count=len(inputs), payload=payload, **others)
    return pb.CollaborateRequest(states=frame)


def ask(length):
    return pb.CollaborateRequest(ask=pb.Ask(length=length, position=length))


@pytest.mark.parametrize(
    ("opening", "what"),
    [
        (constrained(kind="xml"), "xml"),
        (constrained(text="("), "unclosed"),
        (constrained(text="x" * 100_000), "8192"),
        (constrained("json_schema", '{"items":' * 9000), "65536"),
        (constrained("json_schema", "{"), "no JSON"),
        (constrained("json_schema", '{"uniqueItems": true}'), "uniqueItems"),
        (constrained("lark", "start: start"), "cannot be used"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_p": float("nan")}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"log_probabilities": 21}, "log_probabilities"),
    ],
)
def test_a_hostile_opening_is_refused_with_the_reason(said, engine, complete, opening, what):
    code, details = said(opening)
    assert code is REFUSED
    assert what in details
    assert complete(engine, PROMPT, "cloud", max_tokens=2).cloud_calls == 2


def test_tokens_that_cannot_be_are_refused(said, engine):
    extra = states([1, 2, 3], tokens=[3])
    assert said({}, extra)[0] is NONSENSE
    assert said(constrained(), extra)[0] is NONSENSE
    too_few = states([1, 2], window_start=50, tokens=[1])
    assert "stand for 48" in said(constrained(), too_few)[1]
    unknown = states([1], window_start=3, tokens=[1 << 31])
    assert "there are" in said(constrained(), unknown)[1]


def test_a_text_that_breaks_its_own_constraint_is_refused(said, engine):
    tokens = engine.tokenizer.encode("zzz")
    code, details = said(constrained(), states([1, 2, *tokens]), ask(2 + len(tokens)))
    assert code is REFUSED
    assert "may not follow" in details


def test_a_bare_client_gets_the_tokens_that_the_grammar_allows(said, engine):
    opened, first = said(constrained(), states([1, 2]), ask(2))
    assert set(opened.opened.features) == {1, 2, 3}
    assert engine.tokenizer.bytes_of(first.token.token) in (b"a", b"ab", b"abc")
