"""What the pieces of a tokenizer stand for: its decoder, piece by piece.

A tokenizer's own `decode` wants a whole text. Tokens that come one by one, and grammars that ask
what each token would add, need the bytes of every piece.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# A piece of byte fallback is written like <0x0A>.
_FALLBACK_SIZE = 6


class Pieces:
    """Turns pieces into bytes as the decoder of a tokenizer does.

    Attributes:
        lead: spaces that the decoder takes from the start of a whole text, at most.
        lead_in_first: only the first piece loses them, however many they are.
    """

    def __init__(self, decoder: Mapping[str, Any]) -> None:
        """Read a decoder as the `tokenizers` library writes it.

        Raises:
            ValueError: it does something else than byte-level, Metaspace and byte-fallback
                decoders do.
        """
        self.lead = 0
        self.lead_in_first = False
        self._byte_level = False
        self._byte_fallback = False
        self._replaced: list[tuple[str, str]] = []
        fused = False
        steps = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
        for step in steps:
            kind = step["type"]
            if kind == "ByteLevel":
                self._byte_level = True
            elif kind == "ByteFallback":
                self._byte_fallback = True
            elif kind == "Metaspace":
                self._replaced.append((step["replacement"], " "))
                self.lead_in_first = step.get("prepend_scheme", "always") != "never"
                self.lead = 1 << 30 if self.lead_in_first else 0
            elif kind == "Replace" and "String" in step["pattern"]:
                self._replaced.append((step["pattern"]["String"], step["content"]))
            elif kind == "Fuse":
                fused = True
            elif kind == "Strip" and fused and step["content"] == " " and step["stop"] == 0:
                self.lead = step["start"]
            else:
                raise ValueError(
                    f"its decoder {kind} is not one that Updraft can run piece by piece"
                )

    def bytes_of(self, piece: str) -> bytes:
        """Return what a piece adds to a text that has begun."""
        if self._byte_level:
            try:
                return bytes(_BYTE_OF_CHARACTER[character] for character in piece)
            except KeyError:  # a token that was added as it is read
                return piece.encode()
        for old, new in self._replaced:
            piece = piece.replace(old, new)
        if self._byte_fallback and len(piece) == _FALLBACK_SIZE and piece.startswith("<0x"):
            try:
                return bytes.fromhex(piece[3:5]) if piece.endswith(">") else piece.encode()
            except ValueError:  # <0xyz>
                return piece.encode()
        return piece.encode()


def _byte_alphabet() -> dict[str, int]:
    """Map the printable characters of byte-level BPE back to bytes (the GPT-2 alphabet)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    alphabet.update({chr(256 + i): byte for i, byte in enumerate(others)})
    return alphabet


_BYTE_OF_CHARACTER = _byte_alphabet()
