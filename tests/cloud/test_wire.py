"""The wire against a real coordinator, by a client with nothing of ours in it."""

import os
import queue
import threading

import grpc
import numpy as np
import pytest

from updraft.models.sampling import Sampling
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

PROMPT = [5, 9, 2, 14, 7, 7, 30, 101, 55, 3]
SAMPLED = Sampling(0.9, 8)
# Short waits, so that tests of what happens without a message are short.
CONFIG = "[sessions]\ngap_timeout_s = 0.2\ncredit = 256\n[passes]\npositions_per_session = 16\n"
LITTLE = CONFIG.replace("[sessions]\n", "[sessions]\nmemory_mib = 1\n")
BUSY, GONE = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE
NONSENSE, TOO_LATE = grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.DEADLINE_EXCEEDED


class Client:
    """One `Collaborate` stream."""

    def __init__(self, stub, first):
        self._frames = queue.SimpleQueue()
        self._frames.put(first)
        self.acknowledged = 0
        self._answers = stub.Collaborate(iter(self._frames.get, None), timeout=60)
        self.opened = None
        self.first = first

    def __enter__(self):
        self.opened = self.receive().opened
        return self

    def __exit__(self, *_):
        self.cut()

    def put(self, **frame):
        condition = frame.pop("if_replaced", None)
        states = pb.States(**frame)
        if condition is not None:
            states.if_replaced.CopyFrom(pb.Replacement(position=condition[0], token=condition[1]))
        self._frames.put(pb.CollaborateRequest(states=states))

    def ask(self, epoch, length, position):
        ask = pb.Ask(epoch=epoch, length=length, position=position)
        self._frames.put(pb.CollaborateRequest(ask=ask))

    def generate(self, tokens, max_tokens):
        generate = pb.Generate(tokens=tokens, max_tokens=max_tokens)
        self._frames.put(pb.CollaborateRequest(generate=generate))

    def receive(self):
        """Return the next answer that is no Ack."""
        while True:
            answer = next(self._answers)
            if not answer.HasField("ack"):
                return answer
            self.acknowledged = answer.ack.received

    def verdict(self):
        answer = self.receive()
        assert answer.HasField("verdict"), answer
        return answer.verdict

    def need_from(self):
        answer = self.receive()
        assert answer.HasField("need_from"), answer
        return answer.need_from.epoch, answer.need_from.position

    def finish(self):
        """Close the session; returns the answers that were still due."""
        self._frames.put(pb.CollaborateRequest(close=pb.Close()))
        self._frames.put(None)
        return [answer for answer in self._answers if not answer.HasField("ack")]

    def cut(self):
        """End the stream as a broken link would."""
        self._answers.cancel()
        self._frames.put(None)

    def refusal(self):
        """Return status and message that the stream ends with."""
        with pytest.raises(grpc.RpcError) as refused:
            while True:
                next(self._answers)
        return refused.value.code(), refused.value.details()


@pytest.fixture(scope="session")
def served(daemon_of, tiny_bundle, tmp_path_factory):
    """A coordinator of the tiny bundle for all tests."""
    path = tmp_path_factory.mktemp("served") / "coordinator.toml"
    path.write_text(CONFIG)
    arguments = ["--listen", "127.0.0.1:0", "--bundle", tiny_bundle.folder, "--config", path]
    daemon = daemon_of("cloud", "serve", *arguments)
    yield daemon
    log = daemon.close()
    assert "Traceback" not in log, log


@pytest.fixture
def serve(start_daemon, tiny_bundle, tmp_path):
    """Return a function that starts a coordinator of the test's own."""

    def start(config=CONFIG, port=0):
        path = tmp_path / "coordinator.toml"
        path.write_text(config)
        listen = ["--listen", f"127.0.0.1:{port}"]
        arguments = [*listen, "--bundle", tiny_bundle.folder, "--config", path]
        return start_daemon("cloud", "serve", *arguments)

    return start


@pytest.fixture
def stub_of():
    """Return a function that makes a stub on a channel of its own."""
    channels = []

    def make(daemon):
        options = [("grpc.use_local_subchannel_pool", 1)]
        channels.append(grpc.insecure_channel(daemon.address, options))
        return rpc.CollaborationStub(channels[-1])

    yield make
    for channel in channels:
        channel.close()


@pytest.fixture
def stub(served, stub_of):
    return stub_of(served)


@pytest.fixture(scope="session")
def open_frame(tiny_bundle):
    """Return a function that makes Open frames of terms."""

    def make(of, **changes):
        sound = {
            "protocol": 1,
            "fingerprint": tiny_bundle.fingerprint,
            "codec": pb.Codec.Value(f"CODEC_{of.codec.name.upper()}"),
            "temperature": of.sampling.temperature,
            "seed": of.sampling.seed,
            "inputs": pb.INPUTS_TOKENS if of.tokens else pb.INPUTS_STATES,
            "logits_above": of.logits_above or 0.0,
            "all_logits": of.logits_above == 0,
        }
        return pb.Open(**sound | changes)

    return make


@pytest.fixture
def connect(open_frame):
    """Return a function that makes a client which opens a session."""
    return lambda stub, of: Client(stub, pb.CollaborateRequest(open=open_frame(of)))


@pytest.fixture
def resume(open_frame):
    """Return a function that makes a client which takes a session up again."""

    def make(stub, of, session_id, epoch=1, length=0, prefix_hash=b"", **changes):
        frame = pb.Resume(
            open=open_frame(of, **changes),
            session_id=session_id,
            epoch=epoch,
            length=length,
            prefix_hash=prefix_hash,
        )
        return Client(stub, pb.CollaborateRequest(resume=frame))

    return make


def upload(stub, session_id, *frames):
    requests = [pb.UploadRequest(session_id=session_id)]
    requests += [pb.UploadRequest(states=pb.States(**frame)) for frame in frames]
    return stub.Upload(iter(requests), timeout=60).received


def describe(stub):
    return stub.Describe(pb.DescribeRequest(), timeout=30)


def wrong(token):
    return (token + 1) % 200


def draft_to_the_end(client, edge, wanted, step):
    """Draft, every third token wrongly, until all of a text is judged; returns the text."""
    text, sent, judged, epoch = list(wanted[: len(PROMPT)]), 0, len(PROMPT), 0
    while judged < len(wanted):
        while len(text) < min(len(wanted), judged + step):
            right = wanted[len(text)]
            text.append(right if len(text) % 3 else wrong(right))
        stop = len(text) - 1
        client.put(**edge.frame(text, sent, stop, stop - judged + 1, epoch, flush=True))
        verdict = client.verdict()
        assert (verdict.epoch, verdict.position) == (epoch, judged - 1)
        text[judged : judged + len(verdict.tokens)] = verdict.tokens
        judged += len(verdict.tokens)
        sent = stop
        if verdict.rejected:
            del text[judged:]
            epoch, sent = epoch + 1, judged - 1
    return text


@pytest.mark.parametrize("codec", ["fp32", "fp16"])
@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED])
def test_verdicts_are_what_the_whole_model_says(
    stub, connect, terms, writer, codec, tokens, sampling
):
    of = terms(sampling, codec, tokens=tokens)
    edge = writer(of)
    wanted = edge.complete(PROMPT, 40)
    with connect(stub, of) as client:
        assert draft_to_the_end(client, edge, wanted, step=7) == wanted
        client.ask(100, 1, 1)
        assert client.finish()[0].need_from.epoch == 100


def test_a_generation_and_asks_give_the_same_text(stub, connect, terms, writer):
    for codec in ("fp32", "fp16"):
        of = terms(SAMPLED, codec)
        edge = writer(of)
        wanted = edge.complete(PROMPT, 20)
        with connect(stub, of) as client:
            client.generate(PROMPT, 10)
            answers = [client.receive().token for _ in range(10)]
            assert [answer.token for answer in answers] == wanted[10:]
            assert [answer.last for answer in answers] == [False] * 9 + [True]
            assert client.finish() == []
        with connect(stub, of) as client:
            for length in range(10, 20):
                client.put(**edge.frame(wanted, length - 10 and length - 1, length))
                client.ask(0, length, length)
                assert client.receive().token.token == wanted[length]


def test_frames_may_come_twice_late_and_in_any_order(stub, connect, terms, writer):
    of = terms(SAMPLED)
    edge = writer(of)
    text = edge.complete(PROMPT, 21)
    bad = [*text[:15], wrong(text[15]), *text[16:]]
    first = [edge.frame(bad, 0, 4), edge.frame(bad, 4, 10, 1), edge.frame(bad, 10, 16, 6)]
    first[2]["flush"] = True
    with connect(stub, of) as client:
        for frame in (first[2], first[0], first[2], first[0], first[1]):
            client.put(**frame)
        verdict = client.verdict()
        assert (verdict.position, list(verdict.tokens)) == (9, text[10:16])
        assert verdict.rejected
        again = edge.frame(text, 15, 20, 5, epoch=1, flush=True)
        for frame in (*first, again, *first, again):
            client.put(**frame)
        verdict = client.verdict()
        assert (verdict.epoch, verdict.position, list(verdict.tokens)) == (1, 15, text[16:21])
        assert not verdict.rejected
        assert client.finish() == []


def test_committed_drafts_are_labelled_and_kept(stub, connect, terms, writer):
    of = terms()
    edge = writer(of)
    text = [*PROMPT, 1, 2, 3]
    labels = [edge.next(text[:length]) for length in (10, 11, 12)]
    with connect(stub, of) as client:
        client.put(**edge.frame(text, 0, 12, 3, committed=[True] * 3, flush=True))
        verdict = client.verdict()
    assert (list(verdict.tokens), verdict.rejected) == (labels, False)
    assert len(verdict.confidences) == 3


def test_a_foreseen_replacement_costs_no_round_trip(stub, connect, terms, writer):
    of = terms(SAMPLED)
    edge = writer(of)
    text = edge.complete(PROMPT, 16)
    drafted = [*text[:11], wrong(text[11]), *text[12:]]
    with connect(stub, of) as client:
        for guess in (wrong(text[11]), text[11]):
            kept = edge.frame(text, 11, 14, 3, epoch=1, flush=True)
            client.put(**kept, if_replaced=(10, guess))
        client.put(**edge.frame(drafted, 0, 13, 4, flush=True))
        first, second = client.verdict(), client.verdict()
    assert (first.rejected, list(first.tokens)) == (True, text[10:12])
    assert (second.epoch, second.position, list(second.tokens)) == (1, 11, text[12:15])


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_logits_come_with_verdicts_where_the_session_asks(
    stub, connect, terms, writer, layers, share
):
    of = terms(logits_above=share)
    edge = writer(of)
    text = [*PROMPT, 1, 2, 3]
    with connect(stub, of) as client:
        client.put(**edge.frame(text, 0, 12, 3, flush=True))
        verdict = client.verdict()
    assert not verdict.rejected
    sequence = layers.upper.new_sequence()
    sequence.append(edge.states(text[:12]))
    top = layers.upper.top
    logits = layers.upper.heads.predict(top, sequence.advance(top)[9:]).logits
    for answer, expected in zip(verdict.logits, logits, strict=True):
        named = np.array(answer.tokens, int) if share else slice(None)
        np.testing.assert_allclose(answer.values, expected[named], rtol=1e-4, atol=1e-4)
        assert len(answer.tokens) == (0 if share == 0 else len(answer.values))
    assert len(verdict.logits[0].values) < 288 if share else True


def test_a_prompt_may_be_uploaded_while_its_end_is_there_already(stub, connect, terms, writer):
    of = terms(SAMPLED)
    edge = writer(of)
    text = edge.complete(list(range(1, 41)), 46)
    parts = [edge.frame(text, at, at + 8) for at in range(0, 40, 8)]
    with connect(stub, of) as client:
        client.put(**edge.frame(text, 40, 45, 5, flush=True))
        session_id = client.opened.session_id
        assert upload(stub, session_id, *reversed(parts), parts[0]) == 48
        verdict = client.verdict()
    assert (verdict.position, list(verdict.tokens)) == (40, text[41:46])


def test_while_an_upload_runs_nobody_asks_for_what_is_missing(stub, connect, terms, writer):
    of = terms()
    edge = writer(of)
    text = edge.complete(PROMPT, 14)
    frames = queue.SimpleQueue()
    with connect(stub, of) as client:
        call = stub.Upload.future(iter(frames.get, None), timeout=60)
        frames.put(pb.UploadRequest(session_id=client.opened.session_id))
        frames.put(pb.UploadRequest(states=pb.States(**edge.frame(text, 0, 4))))
        client.put(**edge.frame(text, 8, 12, 3, flush=True))
        with pytest.raises(grpc.FutureTimeoutError):
            call.result(timeout=1)  # five times as long as a gap may last
        frames.put(None)
        assert call.result().received == 4
        assert client.need_from() == (0, 4)
        client.put(**edge.frame(text, 4, 8))
        assert list(client.verdict().tokens) == text[10:13]


def test_missing_inputs_are_asked_for_when_an_answer_waits_for_them(stub, connect, terms, writer):
    of = terms()
    edge = writer(of)
    text = edge.complete(PROMPT, 16)
    with connect(stub, of) as client:
        client.put(**edge.frame(text, 0, 5))
        client.put(**edge.frame(text, 9, 12, 3, flush=True))
        assert client.need_from() == (0, 5)
        assert client.need_from() == (0, 5), "and again, as long as they do not come"
        client.put(**edge.frame(text, 5, 9))
        assert list(client.verdict().tokens) == text[10:13]


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ([], "the first frame of an upload must name the session"),
        (["states"], "the first frame of an upload must name the session"),
        (["id", "id"], "an upload carries states and nothing else"),
        (["id", "nan"], "values that are not finite"),
        (["id", "huge"], "a frame of 129 positions, 1 to 128 are taken"),
    ],
)
def test_an_upload_that_makes_no_sense_is_refused(stub, connect, terms, writer, frames, message):
    of = terms()
    edge = writer(of)
    frame = edge.frame(PROMPT, 0, 8)
    with connect(stub, of) as client:
        made = {
            "states": pb.UploadRequest(states=pb.States(**frame)),
            "id": pb.UploadRequest(session_id=client.opened.session_id),
            "nan": pb.UploadRequest(
                states=pb.States(**frame | {"payload": b"\xff" * len(frame["payload"])})
            ),
            "huge": pb.UploadRequest(states=pb.States(**frame | {"count": 129})),
        }
        with pytest.raises(grpc.RpcError) as refused:
            stub.Upload(iter([made[name] for name in frames]), timeout=60)
        assert refused.value.code() is NONSENSE
        assert message in refused.value.details()
        client.put(**frame)
        client.ask(0, 8, 8)
        assert client.receive().token.token == edge.next(PROMPT[:8])


def test_an_upload_to_a_session_that_is_gone_is_refused(stub):
    with pytest.raises(grpc.RpcError) as refused:
        upload(stub, "nobody")
    assert refused.value.code() is GONE
    assert "this session is gone: open another" in refused.value.details()


def test_positions_are_acknowledged(stub, connect, terms, writer):
    of = terms()
    frame = writer(of).frame(PROMPT, 0, 10)
    with connect(stub, of) as client:
        assert (client.opened.credit, client.opened.max_positions_per_frame) == (256, 128)
        for _ in range(60):
            client.put(**frame)
        client.ask(0, 10, 10)
        assert client.receive().HasField("token")
        assert 600 - 64 <= client.acknowledged <= 600


@pytest.fixture
def started(connect, terms, writer):
    """Return a function that has a session of fourteen inputs judged."""

    def start(stub, of):
        edge = writer(of)
        text = edge.complete(PROMPT, 24)
        client = connect(stub, of).__enter__()
        client.put(**edge.frame(text, 0, 14, 5, flush=True))
        assert list(client.verdict().tokens) == text[10:15]
        return client, edge, text

    return start


def goes_on(client, edge, text, epoch, start):
    client.put(**edge.frame(text, start, 20, 20 - start, epoch, flush=True))
    verdict = client.verdict()
    assert (verdict.epoch, verdict.position) == (epoch, start)
    return list(verdict.tokens) == text[start + 1 : 21]


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("codec", ["fp32", "fp16"])
def test_a_session_goes_on_after_its_stream_was_cut(stub, started, resume, terms, codec, tokens):
    of = terms(SAMPLED, codec, tokens=tokens)
    client, edge, text = started(stub, of)
    client.cut()
    session_id = client.opened.session_id
    with resume(stub, of, session_id, 1, 12, edge.hash(text, 12)) as again:
        opened = again.opened
        assert (opened.resumed, opened.position, opened.session_id) == (True, 12, session_id)
        assert goes_on(again, edge, text, 1, 12)
        again.finish()
    with resume(stub, of, session_id, 2, 0, edge.hash(text, 0)) as late:
        assert not late.opened.resumed, "it was closed"


def test_another_stream_takes_a_session_over(stub, started, resume, terms):
    of = terms(SAMPLED)
    client, edge, text = started(stub, of)
    with resume(stub, of, client.opened.session_id, 1, 14, edge.hash(text, 14)) as again:
        assert again.opened.resumed
        code, details = client.refusal()
        assert code is GONE
        assert "another stream has taken this session up" in details
        assert goes_on(again, edge, text, 1, 14)


def test_a_session_that_cannot_be_resumed_is_replaced_by_a_new_one(
    stub, serve, stub_of, started, resume, terms, writer
):
    of = terms(SAMPLED)
    cases = [
        ({"prefix_hash": b"another text"}, of),
        ({"length": 15, "prefix_hash": writer(of).hash(PROMPT + [1] * 5, 15)}, of),
        ({"seed": 9}, of),
        ({"session_id": "nobody"}, of),
    ]
    for changes, terms_ in cases:
        client, edge, text = started(stub, of)
        wanted = {"length": 12, "prefix_hash": edge.hash(text, 12)} | changes
        session_id = wanted.pop("session_id", client.opened.session_id)
        with resume(stub, terms_, session_id, 4, **wanted) as again:
            assert (again.opened.resumed, again.opened.position) == (False, 0)
            assert again.opened.session_id != client.opened.session_id
            again.put(**edge.frame(text, 0, 4, epoch=4))
            again.ask(4, 4, 4)
            assert again.receive().HasField("token")
        client.cut()
    daemon = serve()
    client, edge, text = started(stub_of(daemon), of)
    daemon.kill()
    fresh = stub_of(serve(port=daemon.port))
    with resume(fresh, of, client.opened.session_id, 1, 12, edge.hash(text, 12)) as again:
        assert not again.opened.resumed, "a restart forgets everything"


def test_a_used_epoch_cannot_be_resumed_in(stub, started, resume, terms, writer):
    of = terms(SAMPLED)
    client, edge, text = started(stub, of)
    assert goes_on(client, edge, text, 3, 14)
    again = resume(stub, of, client.opened.session_id, 2, 14, edge.hash(text, 14))
    code, details = again.refusal()
    assert code is NONSENSE
    assert "resumed in epoch 2, the session is in 3 already" in details


def test_a_detached_session_expires(serve, stub_of, started, resume, terms, wait_until):
    daemon = serve("[sessions]\nidle_expiry_s = 0.3\n")
    stub, of = stub_of(daemon), terms()
    client, edge, text = started(stub, of)
    client.cut()
    wait_until(lambda: describe(stub).statistics.detached_sessions == 0)
    assert describe(stub).statistics.memory_bytes == 0
    with resume(stub, of, client.opened.session_id, 1, 12, edge.hash(text, 12)) as again:
        assert not again.opened.resumed


def test_many_sessions_in_little_memory_get_exact_answers(
    serve, stub_of, connect, resume, terms, writer
):
    """One MiB holds some contexts of the tiny model; forty sessions take turns in it."""
    stub = stub_of(serve(LITTLE))
    of = terms(SAMPLED)
    edge = writer(of)
    texts = [edge.complete([*PROMPT[:9], n], 24) for n in range(8)]
    clients = [connect(stub, of).__enter__() for _ in range(40)]
    for start, stop in ((0, 14), (14, 16), (16, 20)):
        for number, client in enumerate(clients):
            first = 10 if start == 0 else start
            drafts = stop - first + 1 if start == 0 else stop - start
            text = texts[number % 8]
            client.put(**edge.frame(text, start, stop, drafts, flush=True))
        for number, client in enumerate(clients):
            tokens = list(client.verdict().tokens)
            assert tokens == texts[number % 8][max(start + 1, 10) : stop + 1]
    statistics = describe(stub).statistics
    assert 0 < statistics.peak_memory_bytes <= 1 << 20
    assert statistics.spilled >= 40
    assert statistics.restored >= 40
    assert statistics.evicted == 0
    clients[0].cut()
    with resume(stub, of, clients[0].opened.session_id, 1, 20, edge.hash(texts[0], 20)) as again:
        assert again.opened.resumed, "out of what was spilled"
        again.put(**edge.frame(texts[0], 20, 23, 3, epoch=1, flush=True))
        assert list(again.verdict().tokens) == texts[0][21:24]
    for client in clients:
        client.cut()


def test_evicted_sessions_say_so_and_start_over(serve, stub_of, connect, terms, writer):
    stub = stub_of(serve(LITTLE))
    of = terms(SAMPLED)
    edge = writer(of)
    text = edge.complete(PROMPT, 64)
    single = [edge.frame(text, at, at + 1) for at in range(60)]
    clients = [connect(stub, of).__enter__() for _ in range(24)]
    for client in clients:
        for frame in single:
            client.put(**frame)
        client.ask(0, 60, 60)
        assert client.receive().token.token == text[60]
    statistics = describe(stub).statistics
    assert statistics.evicted > 0
    assert statistics.peak_memory_bytes <= 1 << 20
    first = clients[0]
    assert first.receive().HasField("evicted")
    first.put(**edge.frame(text, 60, 63, 3, flush=True))
    assert first.need_from() == (0, 0)
    first.put(**edge.frame(text, 0, 60))
    verdict = first.verdict()
    assert (verdict.position, list(verdict.tokens)) == (60, text[61:64])
    for client in clients:
        client.cut()


def test_a_client_that_never_reads_is_cut_off(serve, stub_of, connect, terms, writer):
    config = CONFIG.replace("[sessions]\n", "[sessions]\nwrite_timeout_s = 0.3\nmax_sessions = 4\n")
    daemon = serve(config)
    of = terms(logits_above=0.0)
    edge, stub = writer(of), stub_of(daemon)
    text = [*range(1, 63)]
    stuck = [connect(stub_of(daemon), of).__enter__() for _ in range(2)]
    for epoch in range(500):
        if describe(stub).sessions == 0:
            break
        for client in stuck:
            client.put(**edge.frame(text, 0, 60, 60, epoch, flush=True))
        threading.Event().wait(0.01)
    else:
        raise AssertionError("nobody was cut off")
    with connect(stub, of) as other:
        other.put(**edge.frame(text, 0, 9, 1, flush=True))
        assert len(other.verdict().logits) == 1
    for client in stuck:
        code, details = client.refusal()
        if code is TOO_LATE:
            assert "the client read nothing for 0.3 s" in details
        else:  # with its answers its credit is stuck too
            assert code is NONSENSE
            assert "positions came without credit" in details
    for client in stuck:
        client.cut()


def test_streams_that_never_open_stand_in_nobodys_way(
    serve, stub_of, connect, terms, writer, wait_until
):
    daemon = serve(CONFIG.replace("[sessions]\n", "[sessions]\nmax_sessions = 2\n"))
    stub, of = stub_of(daemon), terms()
    edge, ends = writer(of), queue.SimpleQueue()
    silent = [stub_of(daemon).Collaborate(iter(ends.get, None)) for _ in range(300)]
    for _ in range(3):
        with connect(stub, of) as client:
            client.put(**edge.frame(PROMPT, 0, 8))
            client.ask(0, 8, 8)
            assert client.receive().HasField("token")
            client.finish()
    refused = [call for call in silent if call.done()]
    assert len(refused) > 100
    assert {call.code() for call in refused} == {BUSY}
    for call in silent:
        call.cancel()
        ends.put(None)


def test_a_session_that_was_never_used_makes_room_for_one_that_may_be(
    serve, stub_of, connect, terms, writer, started
):
    limits = "[sessions]\nmax_sessions = 3\nopen_timeout_s = 0.3\n"
    stub, of = stub_of(serve(limits)), terms()
    used, edge, text = started(stub, of)
    idlers = [connect(stub, of).__enter__() for _ in range(2)]
    code, details = connect(stub, of).refusal()
    assert code is BUSY
    assert "the coordinator serves 3 sessions, its limit; try later" in details
    threading.Event().wait(0.4)
    with connect(stub, of):
        code, details = idlers[0].refusal()
        assert code is BUSY
        assert "the session was not used, and others needed its place" in details
        assert goes_on(used, edge, text, 0, 14)
    for client in (used, *idlers):
        client.cut()


def test_who_gets_no_memory_is_refused_with_the_reason(serve, stub_of, connect, terms):
    daemon = serve(LITTLE.replace("[passes]\n", "[passes]\nwait_timeout_s = 0.2\n"))
    stub, of = stub_of(daemon), terms()
    clients = [connect(stub, of).__enter__() for _ in range(30)]
    for client in clients:
        client.generate(PROMPT, 54)
    codes = []
    for client in clients:
        try:
            while not client.receive().token.last:
                pass
        except grpc.RpcError as error:
            codes.append(error.code())
            assert "try later" in error.details()
    assert set(codes) <= {BUSY}
    assert describe(stub).statistics.peak_memory_bytes <= 1 << 20
    for client in clients:
        client.cut()


def test_a_limit_below_one_session_is_refused_at_the_start(start_daemon):
    environment = os.environ | {"UPDRAFT_CLOUD__SESSIONS__MEMORY_MIB": "1"}
    with pytest.raises(RuntimeError, match=r"sessions\.memory_mib is 1, and one session of"):
        start_daemon("cloud", "serve", "--listen", "127.0.0.1:0", environment=environment)


def test_statistics_count_what_happens(serve, stub_of, connect, terms, writer):
    stub = stub_of(serve())
    of = terms()
    edge = writer(of)
    with connect(stub, of) as client:
        client.put(**edge.frame(PROMPT, 0, 8))
        client.ask(0, 8, 8)
        client.receive()
        answer = describe(stub)
        statistics = answer.statistics
        assert (answer.sessions, statistics.frames, statistics.passes) == (1, 2, 1)
        assert (statistics.pass_positions, statistics.pass_sessions) == (8, 1)
        assert statistics.busy_s > 0
        assert statistics.overhead_cpu_s > 0
        assert 0 < statistics.memory_bytes <= statistics.peak_memory_bytes
        client.finish()
    assert describe(stub).statistics.memory_bytes == 0
