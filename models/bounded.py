"""The rule of mode `bounded`, run in one process: what it costs in agreement at each λ.

The exit at the split keeps its token where its confidence reaches λ; else the whole model's token
is taken. Speculation makes the mode fast and changes no token, so the rule needs none of it.
"""

from __future__ import annotations

from collections.abc import Sequence as Series
from dataclasses import dataclass, field
from typing import NamedTuple

from updraft.models.codecs import WireCodec, as_received
from updraft.models.sampling import Sampling
from updraft.models.sequence import Model


class Outcome(NamedTuple):
    """One sequence under the rule.

    Attributes:
        tokens: the new ones.
        wrong: one per committed token: the whole model says another one at this prefix.
    """

    tokens: tuple[int, ...]
    wrong: tuple[bool, ...]

    @property
    def loss(self) -> float:
        """Share of the committed tokens that are wrong; 0 where none is committed."""
        return sum(self.wrong) / len(self.wrong) if self.wrong else 0.0


class BoundedRule:
    """Continues prompts by the rule, with the whole model in this process.

    Args:
        model: all layers of a bundle.
        codec: what the states at the split go through; the exit reads them before, as a device
            does, the layers above after.
        max_tokens: new tokens per sequence, fewer where the text ends.
    """

    def __init__(self, model: Model, codec: WireCodec, temperature: float, max_tokens: int) -> None:
        self.model = model
        self.codec = codec
        self.temperature = temperature
        self.max_tokens = max_tokens

    def ways(self, prompt: Series[int], seed: int) -> Ways:
        """Return the ways in which one prompt goes on, one for each λ.

        Args:
            prompt: at least one token; with `max_tokens` it must fit the context.
            seed: keys the sampling where the temperature is not 0.
        """
        return Ways(self, list(prompt), Sampling(self.temperature, seed))


@dataclass
class _Step:
    """What the two say after one prefix, and the steps that were taken from there, by token."""

    confidence: float
    draft: int
    whole: int
    after: dict[int, _Step] = field(default_factory=dict)


class Ways:
    """The ways in which one prompt goes on under different λ.

    The next token depends on the prefix alone. So what two λ have in common is computed once:
    a further λ costs only what comes after the first token that it changes.
    """

    def __init__(self, rule: BoundedRule, prompt: list[int], sampling: Sampling) -> None:
        self._rule = rule
        self._prompt = prompt
        self._sampling = sampling
        self._first: dict[int, _Step] = {}

    def at(self, commit_from: float) -> Outcome:
        """Run the rule with λ = `commit_from`."""
        ends = self._rule.model.bundle.manifest.tokenizer.ends
        tokens, wrong = list(self._prompt), []
        text: _Text | None = None
        steps = self._first
        for _ in range(self._rule.max_tokens):
            step = steps.get(tokens[-1])
            if step is None:
                # Nothing below a new step is known either: this text serves to the end.
                text = text or _Text(self._rule, self._sampling)
                step = steps[tokens[-1]] = text.step(tokens)
            if step.confidence >= commit_from:
                wrong.append(step.draft != step.whole)
                tokens.append(step.draft)
            else:
                tokens.append(step.whole)
            if tokens[-1] in ends:
                break
            steps = step.after
        return Outcome(tuple(tokens[len(self._prompt) :]), tuple(wrong))


class _Text:
    """A growing text on its way through both halves of the model."""

    def __init__(self, rule: BoundedRule, sampling: Sampling) -> None:
        self._split = rule.model.bundle.manifest.split
        self._codec = rule.codec
        self._sampling = sampling
        self._lower = rule.model.below(self._split).new_sequence()
        self._upper = rule.model.above(self._split).new_sequence()
        self._top = rule.model.top

    def step(self, tokens: list[int]) -> _Step:
        """Put in the tokens that are new and ask both halves for the next one."""
        self._lower.append(tokens[self._lower.length :])
        states = self._lower.advance(self._split)
        self._upper.append(as_received(self._codec, states))
        self._upper.advance(self._top)
        confidence = self._lower.look(self._split)
        draft = self._lower.pick(self._sampling, len(tokens))
        whole = self._upper.propose(self._top, self._sampling, len(tokens))
        return _Step(confidence, draft, whole.token)
