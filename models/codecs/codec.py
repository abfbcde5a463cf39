"""What every wire codec is and keeps to."""

from __future__ import annotations

from typing import Protocol

from updraft.errors import ProtocolError
from updraft.models.manifest import CodecName
from updraft.models.partition import States


class WireCodec(Protocol):
    """Turns states into bytes and back.

    Laws: what a position decodes to does not depend on the positions that it shares a payload
    with, and `encode(decode(payload))` is `payload` for every payload that `encode` made.
    """

    @property
    def name(self) -> CodecName: ...

    def encode(self, states: States) -> bytes:
        """Encode (n, width) states; beyond the codec's range they become its largest value.

        States that hold NaN give a payload that `decode` refuses.
        """

    def decode(self, payload: bytes, count: int, width: int) -> States:
        """Decode a payload to (count, width) states.

        Raises:
            ProtocolError: the payload has another size or holds values that are not finite.
        """


def as_received(codec: WireCodec, states: States) -> States:
    """Return what the other side would read of (n, width) states.

    Raises:
        ProtocolError: they hold NaN.
    """
    return codec.decode(codec.encode(states), *states.shape)


def check_size(name: CodecName, payload: bytes, count: int, expected: int) -> None:
    """Refuse a payload of another size than `count` states take."""
    if len(payload) != expected:
        raise ProtocolError(
            f"a payload of {count} states has {len(payload)} bytes, {name} takes {expected}"
        )


def check_width(name: CodecName, width: int, own: int) -> None:
    """Refuse a width that the bundle's constants are not made for."""
    if width != own:
        raise ProtocolError(f"states of {width} values, this bundle's {name} takes {own}")
