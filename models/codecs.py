"""Wire codecs: how the states at the split become bytes and states again."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import DTypeLike

from updraft.errors import ProtocolError
from updraft.models.manifest import CodecName
from updraft.models.partition import States


class WireCodec(Protocol):
    """Turns states into bytes and back."""

    name: CodecName

    def encode(self, states: States) -> bytes:
        """Encode (n, width) states."""

    def decode(self, payload: bytes, count: int, width: int) -> States:
        """Decode a payload to (count, width) states.

        Raises:
            ProtocolError: the payload has another size or holds values that are not finite.
        """


class _Plain:
    """Row-major little-endian floats."""

    def __init__(self, name: CodecName, element: DTypeLike) -> None:
        self.name: CodecName = name
        self._element = np.dtype(element)
        self._largest = float(np.finfo(self._element).max)

    def encode(self, states: States) -> bytes:
        # A state beyond the type's range would arrive as infinity and be refused.
        bounded = states.clip(-self._largest, self._largest)
        return bounded.astype(self._element).tobytes()

    def decode(self, payload: bytes, count: int, width: int) -> States:
        expected = count * width * self._element.itemsize
        if len(payload) != expected:
            raise ProtocolError(
                f"a payload of {count} states has {len(payload)} bytes, {self.name} takes "
                f"{expected}"
            )
        states = np.frombuffer(payload, self._element).astype(np.float32).reshape(count, width)
        if not np.isfinite(states).all():
            raise ProtocolError("a payload holds values that are not finite")
        return states


CODECS: dict[CodecName, WireCodec] = {
    "fp32": _Plain("fp32", "<f4"),
    "fp16": _Plain("fp16", "<f2"),
}
