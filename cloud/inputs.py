"""What a client has sent of one window: kept as it came, so that the context can be made again."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from updraft.errors import ProtocolError

Rows = NDArray[Any]
# Bookkeeping of one frame, rounded up: the objects around its payload.
_FRAME_BYTES = 512
_TOKEN_BYTES = 4


class DamagedInputs(ValueError):
    """Raised when what was kept is not what came: the memory has failed."""


@dataclass(slots=True)
class _Frame:
    """Inputs of positions `start` to `stop`, the first of them in row `skip` of the payload."""

    start: int
    stop: int
    skip: int
    count: int
    payload: bytes
    checksum: int
    rows: Rows | None

    @property
    def held_bytes(self) -> int:
        return _FRAME_BYTES + len(self.payload) + (0 if self.rows is None else self.rows.nbytes)


class Inputs:
    """Inputs by position, in whatever order they come.

    The payloads are kept: they are small, and they decode to the same inputs every time. The
    decoded rows are kept until they have been computed.

    Attributes:
        length: positions known from the start without a gap.
        held_bytes: memory taken.
    """

    def __init__(self, decode: Callable[[bytes, int], Rows], limit: int) -> None:
        """Start with nothing.

        Args:
            decode: makes `count` rows of a payload, or raises ProtocolError.
            limit: positions that fit the context.
        """
        self.length = 0
        self.held_bytes = 0
        self._decode = decode
        self._limit = limit
        self._frames: list[_Frame] = []
        self._early: dict[int, _Frame] = {}

    def put(self, position: int, count: int, payload: bytes) -> None:
        """Take a frame; positions that are known already are ignored.

        Raises:
            ProtocolError: the payload is no `count` inputs, or they exceed the context.
        """
        stop, rows = position + count, self.check(position, count, payload)
        if stop <= self.length:
            return
        frame = _Frame(position, stop, 0, count, payload, crc32(payload), rows)
        if position <= self.length:
            self._append(frame)
            if self._early:
                self._close_gap()
        else:
            self._keep_early(frame)

    def check(self, position: int, count: int, payload: bytes) -> Rows:
        """Return the inputs of a frame.

        Raises:
            ProtocolError: the payload is no `count` inputs, or they exceed the context.
        """
        stop = position + count
        if stop > self._limit:
            raise ProtocolError(f"inputs up to position {stop} exceed the context of {self._limit}")
        return self._decode(payload, count)

    def truncate(self, length: int) -> None:
        """Forget every position from `length` on."""
        for frame in self._early.values():
            self.held_bytes -= frame.held_bytes
        self._early = {}
        if length >= self.length:
            return
        while self._frames and self._frames[-1].start >= length:
            self.held_bytes -= self._frames.pop().held_bytes
        if self._frames:
            self._frames[-1].stop = length
        self.length = length

    def rows(self, start: int, stop: int) -> Rows:
        """Return the inputs of known positions: (n,) token ids or (n, width) states.

        Raises:
            DamagedInputs: a payload is not what it was when it came.
        """
        parts = []
        index = self._index_of(start)
        while start < stop:
            frame = self._frames[index]
            first, last = frame.skip - frame.start, min(stop, frame.stop)
            parts.append(self._rows_of(frame)[first + start : first + last])
            start, index = last, index + 1
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def release(self, length: int) -> None:
        """Keep only the payloads of positions before `length`: they have been computed."""
        index = self._index_of(length - 1)
        while index >= 0 and (rows := self._frames[index].rows) is not None:
            if self._frames[index].stop <= length:
                self.held_bytes -= rows.nbytes
                self._frames[index].rows = None
            index -= 1

    def release_all(self) -> None:
        """Keep only payloads."""
        for frame in (*self._frames, *self._early.values()):
            if frame.rows is not None:
                self.held_bytes -= frame.rows.nbytes
                frame.rows = None

    def prefix_hash(self, length: int) -> bytes:
        """Return BLAKE2b of 16 bytes over the first inputs: decoded states, or token ids.

        Raises:
            DamagedInputs: a payload is not what it was when it came.
        """
        digest = hashlib.blake2b(digest_size=16)
        if length:
            rows = self.rows(0, length)
            digest.update(rows.astype("<u4" if rows.ndim == 1 else "<f4").tobytes())
        return digest.digest()

    def _index_of(self, position: int) -> int:
        return bisect_right(self._frames, position, key=lambda frame: frame.start) - 1

    def _rows_of(self, frame: _Frame) -> Rows:
        if frame.rows is not None:
            return frame.rows
        if crc32(frame.payload) != frame.checksum:
            raise DamagedInputs(f"the inputs of positions {frame.start} to {frame.stop} changed")
        return self._decode(frame.payload, frame.count)

    def _append(self, frame: _Frame) -> None:
        frame.skip += self.length - frame.start
        frame.start = self.length
        self._frames.append(frame)
        self.held_bytes += frame.held_bytes
        self.length = frame.stop

    def _keep_early(self, frame: _Frame) -> None:
        """Keep a frame beyond a gap; what there is no room for will be asked for again."""
        known = self._early.get(frame.start)
        if known is not None and known.stop >= frame.stop:
            return
        kept = sum(f.stop - f.start for f in self._early.values() if f is not known)
        if kept + frame.stop - frame.start > self._limit:
            return
        if known is not None:
            self.held_bytes -= known.held_bytes
        self._early[frame.start] = frame
        self.held_bytes += frame.held_bytes

    def _close_gap(self) -> None:
        for start in sorted(self._early):
            if start > self.length:
                break
            frame = self._early.pop(start)
            self.held_bytes -= frame.held_bytes
            if frame.stop > self.length:
                self._append(frame)


def frame_bytes(count: int, payload_bytes: int, row_bytes: int) -> int:
    """Return the memory that a frame takes until its inputs have been computed."""
    return _FRAME_BYTES + payload_bytes + count * row_bytes


def most_bytes(positions: int, row_bytes: int) -> int:
    """Return the most memory that the inputs of so many positions take, one frame each."""
    # Twice: the payload, at its largest, and the decoded rows.
    return positions * (_FRAME_BYTES + 2 * row_bytes)


def decode_tokens(payload: bytes, count: int, vocabulary_size: int) -> Rows:
    """Return token ids out of a payload.

    Raises:
        ProtocolError: it has another size, or names tokens that there are not.
    """
    if len(payload) != _TOKEN_BYTES * count:
        raise ProtocolError(
            f"a payload of {count} tokens has {len(payload)} bytes, "
            f"{_TOKEN_BYTES * count} are expected"
        )
    tokens: Rows = np.frombuffer(payload, "<u4").astype(np.int64)
    if tokens.max() >= vocabulary_size:
        raise ProtocolError(f"token {tokens.max()} came, there are {vocabulary_size}")
    return tokens
