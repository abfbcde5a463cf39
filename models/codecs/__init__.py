"""Wire codecs: how the states at the split become bytes and states again."""

from __future__ import annotations

from updraft.errors import RequestError
from updraft.models.bundle import Bundle
from updraft.models.codecs.bfloat import BrainFloat
from updraft.models.codecs.codec import WireCodec, as_received
from updraft.models.codecs.integer import Integer
from updraft.models.codecs.plain import Plain
from updraft.models.manifest import CodecName

__all__ = ["WireCodec", "as_received", "wire_codec"]

_PLAIN: dict[CodecName, WireCodec] = {
    "fp32": Plain("fp32", "<f4"),
    "fp16": Plain("fp16", "<f2"),
}
_BITS: dict[CodecName, int] = {"int8": 8, "int6": 6, "int4": 4}


def wire_codec(bundle: Bundle, name: CodecName) -> WireCodec:
    """Return a codec with the constants that the bundle gives it.

    Raises:
        RequestError: the bundle does not offer this codec.
    """
    manifest = bundle.manifest
    if name not in manifest.codecs:
        lacking = "" if manifest.wire else ", it has no channel scales"
        raise RequestError(
            f"wire codec {name!r} is not one of bundle {manifest.name!r}{lacking}: choose from "
            f"{', '.join(manifest.codecs)}"
        )
    if name in _PLAIN:
        return _PLAIN[name]
    scales = bundle.channel_scales
    return BrainFloat(scales) if name == "bf16" else Integer(name, _BITS[name], scales)
