"""How models of a family write the tools that they call."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass
from typing import Literal

from updraft.models.chat import ChatTemplate
from updraft.models.tokenizer import Tokenizer

_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True)
class Dialect:
    """The marks around calls, each an object with a name and arguments.

    Attributes:
        opening: stands before a call, or before the array of calls; empty: a text that begins
            with an object is a call.
        mark: may stand before a call in any case; a token without text in some vocabularies.
        closing: stands after each call; empty: nothing does.
        arguments: the key of the arguments.
        array: calls stand in one array.
        id_length: characters of a call's id, which some templates insist on.
    """

    name: Literal["hermes", "llama", "mistral"]
    opening: str = ""
    mark: str = ""
    closing: str = ""
    arguments: str = "arguments"
    array: bool = False
    id_length: int = 24

    def new_id(self) -> str:
        """Return the id of a new call."""
        made = "".join(secrets.choice(_ALPHABET) for _ in range(self.id_length))
        return made if self.array else f"call_{made}"

    def mark_token(self, tokenizer: Tokenizer) -> int | None:
        """Return the token that the mark is, where that has no text of its own."""
        tokens = tokenizer.encode_chat(self.mark)
        return tokens[0] if len(tokens) == 1 and not tokenizer.bytes_of(tokens[0]) else None


# Qwen and Hermes.
HERMES = Dialect("hermes", "<tool_call>", "<tool_call>", "</tool_call>")
# Llama 3.
LLAMA = Dialect("llama", mark="<|python_tag|>", arguments="parameters")
MISTRAL = Dialect("mistral", "[TOOL_CALLS]", "[TOOL_CALLS]", array=True, id_length=9)


def dialect_of(template: ChatTemplate) -> Dialect | None:
    """Return how a bundle's model calls tools; None: its template knows none."""
    source = template.source
    if "tools" not in source:
        return None
    for dialect in (MISTRAL, HERMES, LLAMA):
        if dialect.mark in source:
            return dialect
    return LLAMA if '"parameters"' in source else None
