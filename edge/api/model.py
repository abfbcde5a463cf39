"""The one model that an agent serves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from updraft.edge.api.body import Body
from updraft.edge.api.dialect import Dialect, dialect_of
from updraft.edge.api.serving import Order
from updraft.edge.config import EdgeConfig
from updraft.edge.engine import Engine
from updraft.edge.request import GenerationRequest
from updraft.errors import ModelUnknown, RequestError
from updraft.models.chat import ChatTemplate

_SEEDS = 1 << 63


class Served:
    """What requests are prepared with: the engine and its configuration, chats and tools.

    Attributes:
        name: what clients call the model.
        dialect: how it calls tools; None: its chat template knows none.
        mark: the token that the dialect's mark is, where that has no text.
    """

    def __init__(self, engine: Engine, config: EdgeConfig) -> None:
        self.engine = engine
        self.config = config
        self.name = engine.bundle.manifest.name
        self.chat = ChatTemplate(engine.bundle, engine.tokenizer)
        self.dialect: Dialect | None = dialect_of(self.chat)
        self.mark = None if self.dialect is None else self.dialect.mark_token(engine.tokenizer)

    @property
    def has_cloud(self) -> bool:
        """Whether there is a way to a coordinator."""
        return self.engine.link is not None

    @property
    def context_length(self) -> int:
        """Tokens of prompt and answer together."""
        return self.engine.bundle.manifest.architecture.context_length

    def check_name(self, name: str | None) -> None:
        """Refuse requests for another model.

        Raises:
            ModelUnknown: it is not the one that is served.
        """
        if name is not None and name != self.name:
            raise ModelUnknown(
                f"model {name!r} is not served here; this agent serves {self.name!r}"
            )

    def card(self) -> dict[str, Any]:
        """Return the model as `/v1/models` lists it."""
        return {
            "id": self.name,
            "object": "model",
            "created": 0,
            "owned_by": "updraft",
            "updraft": {
                "fingerprint": self.engine.bundle.fingerprint,
                "context_length": self.context_length,
                "chat_template": not self.chat.is_plain,
                "tools": None if self.dialect is None else self.dialect.name,
            },
        }

    def text_of(self, tokens: list[int]) -> str:
        """Return the text of a prompt that came as tokens.

        Raises:
            RequestError: there is none, or one is not in the vocabulary.
        """
        vocabulary = self.engine.bundle.manifest.architecture.vocabulary_size
        if not tokens:
            raise RequestError("the prompt is empty: give at least one token")
        for token in tokens:
            if not 0 <= token < vocabulary:
                raise RequestError(f"prompt: token {token} lies outside 0 to {vocabulary - 1}")
        return self.engine.tokenizer.decode(tokens)

    def orders(self, body: Body, asked: GenerationRequest, prompt: list[int]) -> list[Order]:
        """Return one order for each of `n` choices, each with a seed of its own."""
        own = body.updraft
        local_only = own.privacy is not None
        own_mode = local_only or asked.mode == "auto"
        own_mode |= (own.mode or self.config.decoding.mode) is not None
        return [
            Order(replace(asked, seed=(asked.seed + number) % _SEEDS), prompt, own_mode, local_only)
            for number in range(body.choices)
        ]
