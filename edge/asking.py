"""A client of a fleet: asks for answers, and for what is planned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
from google.protobuf.json_format import MessageToDict

from updraft.config.endpoint import Endpoint, TlsMaterial
from updraft.edge.channel import credentials_of, explain
from updraft.errors import LinkBroken
from updraft.proto.v1 import fleet_pb2 as pb
from updraft.proto.v1 import fleet_pb2_grpc as rpc

_PLAN_TIMEOUT_S = 10.0


class Routed(NamedTuple):
    """Who answers; what came before it is void.

    Attributes:
        quality: what the gate expects, 0 to 1.
        attempt: nodes that failed before.
    """

    node: str
    expert: str
    quality: float
    attempt: int
    plan_version: int


class Part(NamedTuple):
    """A piece of the answer, after `position` tokens."""

    position: int
    text: str
    tokens: int


class Ended(NamedTuple):
    """The end of an answer.

    Attributes:
        usage: what it cost, by the names of `UsageRecord`.
        routed: who gave its last part.
    """

    finish_reason: str
    usage: dict[str, Any]
    routed: Routed


class Answered(NamedTuple):
    """A whole answer."""

    text: str
    tokens: int
    ended: Ended


class FleetClient:
    """Asks one coordinator; may be used by several threads.

    Raises:
        UpdraftError: from every call, when the coordinator refuses or cannot be reached.
    """

    def __init__(self, endpoint: Endpoint, tls: TlsMaterial | None = None) -> None:
        self._endpoint = endpoint
        target = str(endpoint)
        if tls is None:
            self._channel = grpc.insecure_channel(target)
        else:
            self._channel = grpc.secure_channel(target, credentials_of(tls))
        self._stub = rpc.FleetStub(self._channel)

    def plan(self) -> dict[str, Any]:
        """Return the plan and the nodes, by the names of `GetPlanResponse`."""
        try:
            found = self._stub.GetPlan(pb.GetPlanRequest(), timeout=_PLAN_TIMEOUT_S)
        except grpc.RpcError as error:
            raise explain(self._endpoint, error) from error
        return _as_dict(found)

    def ask(
        self,
        prompt: str,
        max_tokens: int = 64,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        timeout_s: float = 300.0,
    ) -> Iterator[Routed | Part | Ended]:
        """Yield the answer as it comes; leaving the iterator cancels it."""
        request = pb.AnswerRequest(
            prompt=prompt, max_tokens=max_tokens, temperature=temperature, seed=seed
        )
        call = self._stub.Answer(request, timeout=timeout_s)
        try:
            for frame in call:
                kind = frame.WhichOneof("frame")
                if kind == "routed":
                    yield _routed(frame.routed)
                elif kind == "part":
                    yield Part(frame.part.position, frame.part.text, frame.part.tokens)
                elif kind == "end":
                    usage = _as_dict(frame.end.usage)
                    yield Ended(frame.end.finish_reason, usage, _routed(frame.end.routed))
        except grpc.RpcError as error:
            raise explain(self._endpoint, error) from error
        finally:
            call.cancel()

    def answer(self, prompt: str, max_tokens: int = 64, **choices: Any) -> Answered:
        """Return the whole answer; the choices are those of `ask`."""
        text, tokens = "", 0
        for event in self.ask(prompt, max_tokens, **choices):
            if isinstance(event, Routed):
                text, tokens = "", 0
            elif isinstance(event, Part):
                text, tokens = text + event.text, event.position + event.tokens
            else:
                return Answered(text, tokens, event)
        raise LinkBroken(f"coordinator {self._endpoint}: the answer has no end")

    def close(self) -> None:
        """Close the channel; answers on it end."""
        self._channel.close()


def _routed(frame: pb.Routed) -> Routed:
    return Routed(frame.node, frame.expert, frame.quality, frame.attempt, frame.plan_version)


def _as_dict(message: Any) -> dict[str, Any]:
    return MessageToDict(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        unquote_int64_if_possible=True,
    )
