"""Tasks that a model is judged by: completions and choices, from a text or from a user's file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from updraft.errors import RequestError
from updraft.models.continuation import GREEDY_TOKENS
from updraft.models.sequence import Model
from updraft.models.sequence import Sequence as ModelSequence
from updraft.models.tokenizer import Tokenizer

Task = Literal["completion", "choice", "exact match", "own choice"]

_CONTEXT_TOKENS = 96
# Short, so that the right one does not win by its mere length of good tokens.
_CHOICE_TOKENS = 8
_CHOICES = 4
_MOST_CHOICES = 64


@dataclass(frozen=True)
class Item:
    """A question with a known answer.

    Attributes:
        task: `completion`: share of the answer's tokens that are written before the first that
            is wrong; `exact match`: 1 where all of them are written; `choice`, `own choice`
            (of a user's file): 1 where the answer is the likeliest per token.
        context: tokens that the model reads first.
        answers: the right answer first, then what it is told from.
    """

    task: Task
    context: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]

    @property
    def tokens(self) -> int:
        """Positions that the item takes up at most."""
        return len(self.context) + max(map(len, self.answers))


class Scored(NamedTuple):
    """What a model says of tokens, each (n,): nats of the true one, and its best one."""

    cross_entropy: NDArray[np.float64]
    best: NDArray[np.int64]

    @classmethod
    def of(cls, model: Model, states: NDArray[np.float32], truth: NDArray[np.int64]) -> Scored:
        """Ask the full depth about states (n, width) whose next tokens are known."""
        said = model.heads.predict(model.top, states)
        each = np.arange(len(truth))
        # probability = exp(best logit) / Σ exp(logit), so the sum need not be formed again.
        gap = said.logits[each, said.token] - said.logits[each, truth]
        return cls(gap.astype(np.float64) - np.log(said.probability), said.token)


def score_item(model: Model, sequence: ModelSequence, item: Item) -> float:
    """Return what a model scores on an item, from 0 to 1."""
    sequence.truncate(0)
    sequence.append(item.context)
    sequence.advance(model.top)
    start = sequence.length
    scored = [_continue(model, sequence, start, answer) for answer in item.answers]
    if item.task in ("choice", "own choice"):
        nats = [one.cross_entropy.mean() for one in scored]
        return float(nats[0] < min(nats[1:]))
    right = scored[0].best == np.array(item.answers[0])
    return float(right.all()) if item.task == "exact match" else float(np.cumprod(right).mean())


def draw_items(
    stream: NDArray[np.int64], start: int, context: int, count: int, rng: np.random.Generator
) -> list[Item]:
    """Draw completions and choices from a text, `count` of each.

    What a choice's right answer is told from stands elsewhere in the text behind the same token,
    where there is such a place: it fits at least where it begins.

    Args:
        stream: the text's tokens.
        start: the token that a text begins with.
        context: positions that the model has.
    """
    before = min(_CONTEXT_TOKENS, context // 2, len(stream) // 4)
    after = min(GREEDY_TOKENS, context - before - 1)
    places = defaultdict(list)
    for place, token in enumerate(stream[: -_CHOICE_TOKENS - 1].tolist()):
        places[token].append(place + 1)
    items = []
    for at in rng.integers(before, len(stream) - after, count).tolist():
        asked = (start, *stream[at - before : at].tolist())
        items.append(Item("completion", asked, (tuple(stream[at : at + after].tolist()),)))
        others = _others(stream, at, places[int(stream[at - 1])], rng)
        right = tuple(stream[at : at + _CHOICE_TOKENS].tolist())
        if others:
            items.append(Item("choice", asked, (right, *others)))
    return items


def read_item(row: dict[str, Any], tokenizer: Tokenizer, start: int, context: int) -> Item:
    """Make an item of a row of a user's file.

    A row holds a `prompt` and either its `completion`, or `choices` and the number of the right
    one as `answer`, counted from 0.

    Raises:
        RequestError: it does not, or is longer than the context.
    """
    prompt = row.get("prompt")
    if not isinstance(prompt, str):
        raise RequestError('a text "prompt" is expected')
    asked = (start, *tokenizer.encode(prompt))
    choices, answer = row.get("choices"), row.get("answer")
    if isinstance(choices, list):
        if not 2 <= len(choices) <= _MOST_CHOICES or not all(
            isinstance(choice, str) and choice for choice in choices
        ):
            raise RequestError(f'"choices" must be 2 to {_MOST_CHOICES} texts')
        if not isinstance(answer, int) or not 0 <= answer < len(choices):
            raise RequestError(f'"answer" must be a number from 0 to {len(choices) - 1}')
        ordered = [choices[answer], *choices[:answer], *choices[answer + 1 :]]
        item = Item("own choice", asked, tuple(tuple(tokenizer.encode(c)) for c in ordered))
    elif isinstance(row.get("completion"), str) and row["completion"]:
        item = Item("exact match", asked, (tuple(tokenizer.encode(row["completion"])),))
    else:
        raise RequestError('a "completion", or "choices" and an "answer", are expected')
    if item.tokens > context:
        raise RequestError(f"it takes {item.tokens} tokens, the context has {context}")
    return item


def _continue(model: Model, sequence: ModelSequence, start: int, answer: Sequence[int]) -> Scored:
    sequence.truncate(start)
    sequence.append(answer[:-1])
    if len(answer) > 1:
        sequence.advance(model.top)
    states = sequence.states(model.top, start - 1, sequence.length)
    return Scored.of(model, states, np.array(answer))


def _others(
    stream: NDArray[np.int64], at: int, alike: list[int], rng: np.random.Generator
) -> list[tuple[int, ...]]:
    """Return wrong answers for the place `at`, from places that begin alike if there are any."""
    right = tuple(stream[at : at + _CHOICE_TOKENS].tolist())
    last = len(stream) - _CHOICE_TOKENS
    drawn = [*rng.permutation(alike)[: 2 * _CHOICES], *rng.integers(0, last, 4 * _CHOICES)]
    texts = (tuple(stream[int(p) : int(p) + _CHOICE_TOKENS].tolist()) for p in drawn)
    found = dict.fromkeys(text for text in texts if text != right)
    return list(found)[: _CHOICES - 1]
