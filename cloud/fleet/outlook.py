"""What the coordinator foresees of a prompt: its length, and how well each expert answers it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from updraft.errors import ConfigError
from updraft.optimizer.gate.gate import Gate


@dataclass(frozen=True)
class Outlook:
    """A prompt as planning and routing see it.

    Attributes:
        quality: expected of each expert that the gate knows, 0 to 1.
    """

    prompt_tokens: int
    quality: dict[str, float]


class Foresight:
    """Looks at prompts; takes milliseconds, so call it in a thread.

    Args:
        gate: over the experts; it must read text.
        count_tokens: of a text, by the family's tokenizer.

    Raises:
        ConfigError: the gate reads something else.
    """

    def __init__(self, gate: Gate, count_tokens: Callable[[str], int]) -> None:
        if gate.text is None:
            raise ConfigError(
                ["fleet.gate: this gate reads states, not text: train one with text features"]
            )
        self._gate, self._text = gate, gate.text
        self._count_tokens = count_tokens

    def look(self, prompt: str) -> Outlook:
        """Return what is foreseen of a prompt."""
        row = self._gate.quality(self._text.encode([prompt]))[0]
        quality = dict(zip(self._gate.experts, row.tolist(), strict=True))
        return Outlook(self._count_tokens(prompt), quality)
