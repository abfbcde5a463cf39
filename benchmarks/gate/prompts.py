"""Prompts with known truth for measuring the gate: invented text, experts with skills.

A prompt is about one or two subjects and more or less hard. Its words come from the vocabularies of
its subjects; harder prompts use rarer words. An expert answers well with a probability that depends
on its skill in the subjects and on how it bears difficulty. The gate sees the words (or a noisy
state) and one right-or-wrong answer per expert and prompt, never the subjects, the difficulty or
the probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

SUBJECTS = 6
_VOCABULARY = 120
_COMMON_SHARE = 0.4
_SYLLABLES = [c + v for c in "bdfgklmnprstvz" for v in "aeiou"]
_STATE_WIDTH = 64
_STATE_NOISE = 0.3


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts, and what is true of them.

    Attributes:
        state: (P, 64), a noisy non-linear image of what the prompt is about, as a layer of a model
            might hold it.
        truth: (P, N), probability that expert i answers prompt p well.
        answers: (P, N), 1 where it did, drawn once from `truth`.
    """

    texts: list[str]
    state: Matrix
    truth: Matrix
    answers: Matrix


def draw_prompts(seed: int, experts: int, counts: tuple[int, ...]) -> list[Prompts]:
    """Return disjoint sets of prompts for the same experts, of these sizes."""
    rng = np.random.default_rng(seed)
    words = _vocabularies(rng)
    skill = rng.normal(0, 1, (experts, SUBJECTS)) + rng.normal(0, 0.5, (experts, 1))
    burden = rng.uniform(0.5, 3, experts)
    image = rng.normal(0, 1, (SUBJECTS + 1, _STATE_WIDTH))
    return [_draw(rng, count, words, skill, burden, image) for count in counts]


def _draw(
    rng: np.random.Generator,
    count: int,
    words: NDArray[np.str_],
    skill: Matrix,
    burden: Matrix,
    image: Matrix,
) -> Prompts:
    subjects = np.array([rng.permutation(SUBJECTS)[:2] for _ in range(count)])
    share = rng.uniform(0.5, 1, count)
    hardness = rng.uniform(0, 1, count)
    about = np.zeros((count, SUBJECTS))
    about[np.arange(count), subjects[:, 0]] = share
    about[np.arange(count), subjects[:, 1]] = 1 - share
    # What an expert is good at, it also does when it is hard.
    known = about @ skill.T
    logits = 0.5 + 1.5 * known - burden * hardness[:, None] * (1 - np.tanh(known))
    truth = 1 / (1 + np.exp(-logits))
    seen = np.column_stack((about, hardness))
    state = np.tanh(seen @ image) + rng.normal(0, _STATE_NOISE, (count, _STATE_WIDTH))
    texts = [_write(rng, words, *facts) for facts in zip(subjects, share, hardness, strict=True)]
    return Prompts(texts, state, truth, (rng.random(truth.shape) < truth).astype(np.float64))


def _vocabularies(rng: np.random.Generator) -> NDArray[np.str_]:
    """Return (subjects + 1, words); the last row are words that every text uses."""
    count = (SUBJECTS + 1) * _VOCABULARY
    words: set[str] = set()
    while len(words) < count:
        words.add("".join(rng.choice(_SYLLABLES, rng.integers(2, 5))))
    return rng.permutation(sorted(words)).reshape(SUBJECTS + 1, _VOCABULARY)


def _write(
    rng: np.random.Generator,
    words: NDArray[np.str_],
    subjects: NDArray[np.intp],
    share: float,
    hardness: float,
) -> str:
    length = int(rng.integers(10, 50))
    row = np.where(rng.random(length) < share, subjects[0], subjects[1])
    row = np.where(rng.random(length) < _COMMON_SHARE, SUBJECTS, row)
    # An easy text uses the first words of a vocabulary most, a hard one the last.
    rank = rng.beta(1 + 2 * hardness, 3 - 2 * hardness, length)
    return " ".join(words[row, (rank * _VOCABULARY).astype(np.intp)])
