"""Codecs that store floats as they are: fp32 and fp16."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from updraft.errors import ProtocolError
from updraft.models.codecs.codec import check_size
from updraft.models.manifest import CodecName
from updraft.models.partition import States


class Plain:
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
        check_size(self.name, payload, count, count * width * self._element.itemsize)
        states = np.frombuffer(payload, self._element).astype(np.float32).reshape(count, width)
        if not np.isfinite(states).all():
            raise ProtocolError("a payload holds values that are not finite")
        return states
