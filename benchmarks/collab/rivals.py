"""The rival that our engine has no mode for: a split without any cache above it."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from time import perf_counter
from typing import NamedTuple

import grpc

from updraft.edge.engine import Engine
from updraft.edge.request import GenerationResult
from updraft.models.codecs import wire_codec
from updraft.models.partition import States
from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

_TOKEN_BYTES = 4


class Completion(NamedTuple):
    """What a naive client got, and when each token came."""

    result: GenerationResult
    arrivals: list[float]


class NaiveSession:
    """Sends the states of the whole context for every token, each time as a new epoch."""

    def __init__(self, channel: grpc.Channel, opening: pb.Open) -> None:
        self.uplink_bytes = 0
        self._frames: SimpleQueue[pb.CollaborateRequest | None] = SimpleQueue()
        self._frames.put(pb.CollaborateRequest(open=opening))
        stub = rpc.CollaborationStub(channel)
        self._responses: Iterator[pb.CollaborateResponse] = stub.Collaborate(
            iter(self._frames.get, None)
        )
        self._opened = next(self._responses).opened
        self._epoch = self._sent = self._received = 0

    def ask(self, states: States, payload: bytes) -> pb.Token:
        """Return the token that follows these states.

        Args:
            payload: the states, encoded row by row.
        """
        self._epoch += 1
        row_bytes = len(payload) // len(states)
        step = self._opened.max_positions_per_frame
        for first in range(0, len(states), step):
            count = min(step, len(states) - first)
            part = payload[first * row_bytes : (first + count) * row_bytes]
            self._send(pb.States(epoch=self._epoch, position=first, count=count, payload=part))
        ask = pb.Ask(epoch=self._epoch, length=len(states), position=len(states))
        self._frames.put(pb.CollaborateRequest(ask=ask))
        self.uplink_bytes += len(payload)
        while True:
            response = next(self._responses)
            if response.WhichOneof("frame") == "token":
                return response.token
            self._take(response)

    def close(self) -> None:
        """End the session and wait until the coordinator has done so too."""
        self._frames.put(None)
        for _ in self._responses:
            pass

    def _send(self, frame: pb.States) -> None:
        self._sent += frame.count
        while 0 < self._opened.credit < self._sent - self._received:
            self._take(next(self._responses))
        self._frames.put(pb.CollaborateRequest(states=frame))

    def _take(self, response: pb.CollaborateResponse) -> None:
        if response.WhichOneof("frame") == "ack":
            self._received = max(self._received, response.ack.received)


def complete_naively(
    engine: Engine,
    channel: grpc.Channel,
    prompt: str,
    max_tokens: int,
    temperature: float,
    seed: int,
) -> Completion:
    """Complete a prompt as the naive row of CE-CoLLM does: fp32 states, no KV above the split."""
    bundle, split = engine.bundle, engine.bundle.manifest.split
    codec = wire_codec(bundle, "fp32")
    text, arrivals = engine.tokenizer.encode(prompt), []
    prompt_tokens, result = len(text), GenerationResult("threshold")
    started = perf_counter()
    session = NaiveSession(
        channel,
        pb.Open(
            protocol=pb.PROTOCOL_V1,
            fingerprint=bundle.fingerprint,
            codec=pb.CODEC_FP32,
            temperature=temperature,
            seed=seed,
        ),
    )
    sequence = engine.model.below(split).new_sequence()
    while len(text) < prompt_tokens + max_tokens:
        sequence.append(text[sequence.length :])
        sequence.advance(split)
        states = sequence.states(split, 0, sequence.length)
        token = session.ask(states, codec.encode(states))
        result.cloud_calls += 1
        result.cloud_positions += token.computed_positions
        result.cloud_s += token.compute_s
        text.append(token.token)
        arrivals.append(perf_counter())
        if engine.tokenizer.ends(token.token):
            break
    result.total_s = perf_counter() - started
    session.close()
    result.tokens = text[prompt_tokens:]
    result.stalls = result.cloud_calls
    result.edge_s = sequence.busy_s
    result.comm_s = result.total_s - result.edge_s - result.cloud_s
    result.uplink_bytes = session.uplink_bytes
    result.downlink_bytes = _TOKEN_BYTES * result.cloud_calls
    return Completion(result, arrivals)
