"""Frames for the fuzzer: sound ones, bent ones, and bytes that are no frames at all."""

from __future__ import annotations

import hashlib
from functools import cache
from random import Random

import numpy as np

from updraft.models.bundle import Bundle
from updraft.models.codecs import wire_codec
from updraft.proto.v1 import collaboration_pb2 as pb

_BORDERS = (0, 1, 2, 63, 64, 65, 127, 128, 129, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1)
_REALS = (0.0, -0.0, 1.0, -1.0, 5e-324, 1e-300, 1e300, 99.9, float("nan"), float("inf"))
_FIELDS = ("position", "count", "epoch", "window_start", "drafts", "committed", "if_replaced")
_FIELDS += ("tokens", *(4 * ("payload",)))
_CONSTRAINTS = (
    ("json_object", ""),
    ("json_schema", '{"type": "array", "items": {"type": "integer"}}'),
    ("regex", "(?s:.)*"),
    ("lark", 'start: "a" start | "b"'),
)
_NO_CONSTRAINTS = (
    ("", ""),
    ("regex", "("),
    ("regex", "((a{1,1000}){1,1000}){1,1000}"),
    ("json_schema", '{"not": {}}'),
    ("json_schema", '{"items":' * 5000),
    ("lark", "start: " + "(" * 8000),
    ("lark", "start: " + "x" * 100_000),
)
_SIZES = (1, 1, 1, 2, 3, 4, 5, 8, 16)
_LARGEST_FRAME = 128
# What is as good as noise, drawn once: generating it anew would take most of the time.
_NOISE = np.random.default_rng(0).bytes(1 << 16)


class Frames:
    """Makes frames for the sessions of one bundle."""

    def __init__(self, bundle: Bundle) -> None:
        shape = bundle.manifest.architecture
        self.fingerprint = bundle.fingerprint
        self.context_length = shape.context_length
        self.vocabulary_size = shape.vocabulary_size
        self.codecs = [wire_codec(bundle, name) for name in bundle.manifest.codecs]
        self.numbers = [pb.Codec.Value(f"CODEC_{codec.name.upper()}") for codec in self.codecs]
        self._width = shape.width
        rows = np.random.default_rng(1).normal(0, 1, (shape.context_length, shape.width))
        self._states = rows.astype(np.float32)
        self._tokens = np.arange(shape.context_length, dtype="<u4") * 7 % shape.vocabulary_size
        self._learnt: dict[tuple[int, int, int], int] = {}
        self._encode = cache(self._encode_now)
        self._hash = cache(self._hash_now)

    def open(self, rng: Random) -> tuple[pb.Open, int]:
        """Return how to open a session, and the index of its codec."""
        codec = rng.randrange(len(self.codecs))
        frame = pb.Open(
            protocol=pb.PROTOCOL_V1,
            fingerprint=self.fingerprint,
            codec=self.numbers[codec],
            temperature=rng.choice((0.0, 0.0, 0.8, 5e-324, 100.0)),
            seed=rng.getrandbits(64),
            inputs=int(rng.random() < 0.3),
        )
        if rng.random() < 0.2:
            frame.logits_above = rng.choice((5e-324, 0.01, 1.0))
            frame.all_logits = rng.random() < 0.5
        if rng.random() < 0.2:
            frame.top_p, frame.top_k = rng.choice((0.0, 0.5, 1.0)), rng.choice((1, 3, 1 << 20))
            frame.log_probabilities = rng.choice((0, 5, 20))
        if rng.random() < 0.06:
            kind, text = rng.choice(_CONSTRAINTS)
            # From where the tokens must ride on the frames; beyond the context they need not.
            start = rng.choice((0, 7, self.context_length, 2**31, 2**31, 2**31))
            frame.constraint.CopyFrom(pb.Constraint(kind=kind, text=text, start=start))
        return frame, codec

    def spoil_open(self, rng: Random, frame: pb.Open) -> None:
        """Make one thing wrong with it, or extreme."""
        field = rng.randrange(9)
        if field == 0:
            frame.protocol = rng.choice((0, 2, 77))
        elif field == 1:
            frame.fingerprint = rng.choice(("", "0" * 64, "漢" * 1000, self.fingerprint[:-1]))
        elif field == 2:
            frame.codec = rng.choice((0, 7, -1, 2**31 - 1))
        elif field == 3:
            frame.temperature = rng.choice(_REALS)
        elif field == 4:
            frame.inputs = rng.choice((2, -1, 77))
        elif field == 5:
            frame.logits_above = rng.choice(_REALS)
        elif field == 6:
            frame.codec = rng.choice(self.numbers)
        elif field == 7:
            frame.inputs = 1 - frame.inputs
        else:
            self._spoil_choosing(rng, frame)

    def _spoil_choosing(self, rng: Random, frame: pb.Open) -> None:
        """Likewise, in what tokens are chosen by."""
        field = rng.randrange(3)
        if field == 0:
            frame.top_p, frame.top_k = rng.choice(_REALS), rng.choice(_BORDERS)
        elif field == 1:
            frame.log_probabilities = rng.choice(_BORDERS)
        else:
            kind, text = rng.choice(_NO_CONSTRAINTS)
            frame.constraint.CopyFrom(pb.Constraint(kind=kind, text=text))

    def payload(self, opened: pb.Open, codec: int, position: int, count: int) -> bytes:
        """Return sound inputs: every session has the same ones, so that prefixes are known."""
        if opened.inputs:
            return self._tokens[position : position + count].tobytes()
        return self._encode(codec, position, count)

    def states(
        self, opened: pb.Open, codec: int, rng: Random, position: int, room: int
    ) -> pb.States:
        """Return a sound frame of at most `room` positions, with drafts as often as not."""
        count = min(rng.choice(_SIZES) if rng.random() < 0.98 else _LARGEST_FRAME, room)
        frame = pb.States(
            position=position,
            count=count,
            payload=self.payload(opened, codec, position, count),
            flush=rng.random() < 0.4,
            tokens=self._completion(opened, position, count),
        )
        if rng.random() < 0.6:
            drafts = rng.randint(1, count)
            rows = range(position + count - drafts, position + count)
            frame.drafts.extend(self.token_after(rng, opened, codec, row) for row in rows)
            if rng.random() < 0.5:
                frame.committed.extend(rng.random() < 0.9 for _ in range(drafts))
        return frame

    def _completion(self, opened: pb.Open, position: int, count: int) -> list[int]:
        """Return the tokens that a session with a constraint needs beside states."""
        if opened.inputs or not opened.HasField("constraint"):
            return []
        first = max(position, opened.constraint.start)
        return self._tokens[first : position + count].tolist()

    def learn(self, opened: pb.Open, codec: int, verdict: pb.Verdict) -> None:
        """Remember what the whole model says after which input, for drafts that are accepted."""
        if opened.temperature == 0:
            for row, token in enumerate(verdict.tokens, verdict.position):
                self._learnt[opened.inputs, codec, row] = token

    def token_after(self, rng: Random, opened: pb.Open, codec: int, row: int) -> int:
        """Return a token that the whole model may well put after an input."""
        learnt = self._learnt.get((opened.inputs, codec, row))
        if learnt is None or rng.random() < 0.1:
            return rng.randrange(self.vocabulary_size)
        return learnt

    def spoil_states(self, rng: Random, frame: pb.States) -> None:
        """Bend one field; most of these end the session."""
        field = rng.choice(_FIELDS)
        if field == "payload":
            frame.payload = self._spoil_payload(rng, frame)
        elif field == "drafts":
            frame.drafts.extend(rng.choice(_BORDERS) for _ in range(rng.choice((1, 64, 2000))))
        elif field == "tokens":
            frame.tokens.extend(rng.choice(_BORDERS) for _ in range(rng.choice((1, 64, 2000))))
        elif field == "committed":
            frame.committed.extend([True] * rng.choice((1, 64, 2000)))
        elif field == "if_replaced":
            frame.if_replaced.position = rng.choice((frame.position, rng.choice(_BORDERS)))
            frame.if_replaced.token = rng.choice(_BORDERS)
        else:
            setattr(frame, field, rng.choice(_BORDERS))

    def _spoil_payload(self, rng: Random, frame: pb.States) -> bytes:
        way, payload = rng.randrange(5), frame.payload
        if way == 0:
            return payload[: rng.randrange(len(payload) + 1)]
        if way == 1:
            return payload + payload
        if way == 2:
            value, dtype = rng.choice((np.nan, np.inf, 3e38)), rng.choice(("<f4", "<f2", ">f4"))
            with np.errstate(over="ignore"):
                return np.full((frame.count, self._width), value, dtype).tobytes()
        return self.noise(rng, len(payload) if way == 3 else rng.choice((1, 4096, 65536)))

    def ask(self, rng: Random, epoch: int, length: int) -> pb.Ask:
        """Return a question, about what is not there once in a while."""
        if rng.random() < 0.02:
            length = rng.choice(_BORDERS)
        if rng.random() < 0.02:
            epoch = rng.choice(_BORDERS)
        return pb.Ask(epoch=epoch, length=max(1, length), position=rng.choice((length, *_BORDERS)))

    def generate(self, rng: Random) -> pb.Generate:
        """Return the wish for a whole text; some can never be served."""
        length = rng.choice((1, 2, 8, self.context_length - 1, self.context_length, 500))
        most = self.vocabulary_size if rng.random() < 0.9 else 2**32
        tokens = [rng.randrange(most) for _ in range(length)]
        longest = max(1, self.context_length - length)
        return pb.Generate(
            tokens=tokens, max_tokens=longest if rng.random() < 0.7 else rng.choice(_BORDERS)
        )

    def resume(
        self, rng: Random, opened: pb.Open, codec: int, session_id: str, epoch: int, length: int
    ) -> pb.Resume:
        """Return the wish to go on; the prefix is right now and then."""
        if rng.random() < 0.4:
            length = rng.choice((0, 0, 0, length // 2, length + 1, rng.choice(_BORDERS)))
        if rng.random() < 0.1:
            epoch = rng.choice(_BORDERS)
        if rng.random() < 0.05:
            session_id = rng.choice(("", "漢", "0" * 32, "x" * 100_000))
        sound = length <= self.context_length and rng.random() < 0.8
        digest = (
            self._hash(opened.inputs, codec, length)
            if sound
            else self.noise(rng, rng.choice((0, 15, 16, 5000)))
        )
        resume = pb.Resume(
            open=opened, session_id=session_id, epoch=epoch, length=length, prefix_hash=digest
        )
        if rng.random() < 0.1:
            self.spoil_open(rng, resume.open)
        return resume

    def noise(self, rng: Random, size: int) -> bytes:
        """Return bytes that mean nothing."""
        at = rng.randrange(max(1, len(_NOISE) - size))
        return _NOISE[at : at + size]

    def garble(self, rng: Random, message: bytes) -> bytes:
        """Return a message that was cut, changed or replaced on its way."""
        way = rng.randrange(5)
        if way == 0:
            return message[: rng.randrange(len(message) + 1)]
        if way == 1 and message:
            changed = bytearray(message)
            for _ in range(rng.choice((1, 1, 8))):
                changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
            return bytes(changed)
        if way == 2:
            return message + self.noise(rng, rng.choice((1, 3, 100)))
        if way == 3:
            return self.noise(rng, rng.choice((0, 1, 9, 100, 50_000)))
        at = rng.randrange(len(message) + 1)
        return message[at:] + message[:at]

    def _encode_now(self, codec: int, position: int, count: int) -> bytes:
        return self.codecs[codec].encode(self._states[position : position + count])

    def _hash_now(self, tokens: int, codec: int, length: int) -> bytes:
        if tokens:
            prefix = self._tokens[:length].tobytes()
        else:
            payload = self._encode(codec, 0, length)
            states = self.codecs[codec].decode(payload, length, self._width) if length else None
            prefix = b"" if states is None else states.tobytes()
        return hashlib.blake2b(prefix, digest_size=16).digest()
