"""A folder of experts with the gate over them, held-out prompts and measured quality."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from updraft.errors import BundleError
from updraft.models.bundle import MANIFEST
from updraft.optimizer.gate.gate import Gate

GATE = "gate.npz"
PROMPTS = "prompts.jsonl"
QUALITY = "quality.json"

# `forced`: share of the 32 tokens after a prompt that are predicted when all before are true.
# `greedy`: share of the 16 tokens after it that are written before the first untrue one.
# `accuracy`: share of all tokens of held-out files that are predicted.
Measure = Literal["forced", "greedy", "accuracy"]


@dataclass(frozen=True)
class DomainPrompt:
    """A prompt, how its text really goes on, and the domain that it comes from."""

    prompt: str
    completion: str
    domain: str


@dataclass(frozen=True)
class Family:
    """Experts that answer the same prompts, and a gate that says who answers best.

    Attributes:
        folder: a bundle per expert, and the three files named above.
    """

    folder: Path

    def bundles(self) -> dict[str, Path]:
        """Return the bundle folder of each expert, in the order of the gate's columns.

        Raises:
            BundleError: an expert of the gate has no bundle.
        """
        folders = {name: self.folder / name for name in self.gate().experts}
        missing = [name for name, folder in folders.items() if not (folder / MANIFEST).is_file()]
        if missing:
            raise BundleError(
                f"{self.folder}: no bundle for {', '.join(missing)}, which the gate knows; build "
                "the family again: updraft bundle build --recipe family"
            )
        return folders

    def gate(self) -> Gate:
        """Return the gate over the experts.

        Raises:
            ProblemError: its file is damaged.
            BundleError: its file is not there.
        """
        return Gate.from_bytes(self._read(GATE))

    def prompts(self) -> list[DomainPrompt]:
        """Return held-out prompts: no expert and not the gate has seen their files."""
        return read_prompts(self._read(PROMPTS).decode())

    def quality(
        self, measure: Measure = "forced", layer: int | None = None
    ) -> dict[str, dict[str, float]]:
        """Return expert → domain → quality from 0 to 1 on the held-out prompts.

        Args:
            layer: of the exit; full depth by default.
        """
        experts = json.loads(self._read(QUALITY))["experts"]
        return {
            expert: {
                domain: by_layer[str(layer or max(map(int, by_layer)))][measure]
                for domain, by_layer in domains.items()
            }
            for expert, domains in experts.items()
        }

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise BundleError(f"{self.folder / name}: cannot be read: {error}") from error


def write_prompts(prompts: Sequence[DomainPrompt]) -> str:
    """Write prompts as JSON lines."""
    rows = (json.dumps(asdict(prompt)) + "\n" for prompt in prompts)
    return "".join(rows)


def read_prompts(text: str) -> list[DomainPrompt]:
    """Read what `write_prompts` wrote."""
    return [DomainPrompt(**json.loads(row)) for row in text.splitlines()]
