"""What came of a run: how it ended for each stream, and what must not have happened."""

from __future__ import annotations

import re
from collections import Counter

import grpc
from google.protobuf.message import DecodeError

from updraft.errors.catalogue import CATALOGUE
from updraft.proto.v1 import collaboration_pb2 as pb

_MEANT = {kind.code: status.grpc for kind, status in CATALOGUE.items()}
# gRPC's own words where it refuses before any of our code runs.
_GRPC_WORDS = (
    ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!"),
    ("RESOURCE_EXHAUSTED", "Received message larger than max"),
    ("UNIMPLEMENTED", "Method not found!"),
)
# A run with more faults has said enough.
_MOST_FAULTS = 50


class Report:
    """Counts what happened, and keeps what must not happen.

    Attributes:
        frames: messages handed to gRPC.
        faults: what must not happen, in words.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.streams = 0
        self.faults: list[str] = []
        self.endings: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()

    @property
    def hopeless(self) -> bool:
        """Whether so much went wrong that there is no use in going on."""
        return len(self.faults) > _MOST_FAULTS

    def fault(self, text: str) -> None:
        """Take note of what must not happen."""
        self.faults.append(text)

    def ended(self, stream: str, code: grpc.StatusCode, details: str | None) -> None:
        """Judge how a stream ended."""
        words = re.sub(r"[\d.]+|'.*'", "…", details or "")[:100]
        self.endings[f"{code.name} {words}"] += 1
        if code is grpc.StatusCode.OK:
            return
        kind, separator, message = (details or "").partition(": ")
        documented = separator and message and _MEANT.get(kind) == code.name and kind != "error"
        if not documented and not any(
            code.name == status and words in (details or "") for status, words in _GRPC_WORDS
        ):
            self.fault(f"{stream} ended with {code.name} {details!r}")

    def answered(self, stream: str, message: bytes, vocabulary_size: int) -> pb.CollaborateResponse:
        """Judge an answer of a `Collaborate` stream; returns it parsed."""
        answer = pb.CollaborateResponse()
        try:
            answer.ParseFromString(message)
        except DecodeError:
            self.fault(f"{stream} was answered with garbage: {message[:40]!r}")
            return answer
        kind = answer.WhichOneof("frame")
        if kind == "verdict":
            verdict = answer.verdict
            kind += " rejected" if verdict.rejected else ""
            tokens = list(verdict.tokens)
            if not tokens or len(tokens) != len(verdict.confidences):
                self.fault(f"{stream} got a verdict of uneven length: {verdict}")
        else:
            tokens = [answer.token.token] if kind == "token" else []
        if tokens and max(tokens) >= vocabulary_size:
            self.fault(f"{stream} got tokens beyond the vocabulary: {tokens}")
        if kind == "opened":
            kind += " resumed" if answer.opened.resumed else ""
        self.answers[str(kind)] += 1
        return answer
