"""Whose tokens are the whole model's, and how good the drafts of the split's exit are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf

from updraft.benchmarks.collab.cells import Progress, Prompt
from updraft.benchmarks.collab.plan import CLOUD, NAIVE, Case, Row
from updraft.benchmarks.collab.reference import (
    Bucket,
    Judgement,
    Reference,
    acceptance,
    buckets,
    repeats_itself,
)
from updraft.benchmarks.collab.simulation import Draft
from updraft.benchmarks.collab.stage import Run, Stage
from updraft.edge.request import GenerationRequest
from updraft.models.manifest import CodecName
from updraft.models.sampling import Sampling

# A completion is fixed by these: prompt number and temperature.
Key = tuple[int, float]


@dataclass(frozen=True)
class Agreement:
    """How far one row's completions are the whole model's, at one temperature.

    Attributes:
        same_codec: share of tokens that the whole model would have chosen after the same
            prefix, with the row's codec at the split.
        no_codec: likewise, with the states as they are.
        identical: share of completions equal to those of `cloud` with the row's codec.
        first_divergence: median number of equal tokens before the first other one, over the
            completions that differ; None: all are equal.
        waited: share of tokens that waited for the cloud.
    """

    row: Row
    temperature: float
    completions: int
    tokens: int
    same_codec: float
    no_codec: float
    identical: float
    first_divergence: float | None
    waited: float


@dataclass(frozen=True)
class Drafting:
    """How the split's exit does along the whole model's own completions, at one temperature.

    Attributes:
        degenerate: of the prompts that were left out.
    """

    degenerate: bool
    temperature: float
    positions: int
    acceptance: float
    by_confidence: list[Bucket]


class Agreements:
    """Completions of all rows over loopback, beside the whole model in this process."""

    def __init__(self, stage: Stage, max_tokens: int) -> None:
        self.texts: dict[tuple[CodecName, Key], tuple[int, ...]] = {}
        self._degenerate: list[Prompt] = []
        self._prompts: dict[int, Prompt] = {}
        self._stage = stage
        self._max_tokens = max_tokens
        engine = stage.engine(CLOUD)
        self._tokenizer = engine.tokenizer
        self._reference = Reference(stage.bundle, engine.model)
        self._judge = lru_cache(maxsize=None)(self._judge_anew)

    def choose_prompts(
        self, prompts: Sequence[str], count: int, track: Progress
    ) -> tuple[list[Prompt], int]:
        """Return `count` prompts whose greedy completion does not repeat itself.

        Returns:
            The prompts, numbered by their place in the bundle, and how many were tried.
        """
        stride = max(1, len(prompts) // (2 * count))
        order = [*range(0, len(prompts), stride), *range(len(prompts))]
        candidates = [Prompt(i, prompts[i]) for i in dict.fromkeys(order)]
        chosen: list[Prompt] = []
        tried = 0
        for prompt in track(candidates, "prompts that do not repeat themselves"):
            if len(chosen) == count:
                break
            tried += 1
            if repeats_itself(self._cloud(prompt, "fp16", 0.0)):
                self._degenerate.append(prompt)
            else:
                chosen.append(prompt)
                self._prompts[prompt.number] = prompt
        return chosen, tried

    def measure(
        self,
        cases: Sequence[Case],
        prompts: Sequence[Prompt],
        track: Progress,
    ) -> tuple[list[Agreement], list[Drafting]]:
        """Complete all prompts in all cases and compare."""
        runs: dict[Case, list[Run]] = {}
        drafting = []
        for temperature in dict.fromkeys(temperature for _, temperature in cases):
            rows = [row for row, own in cases if own == temperature]
            for prompt in track(prompts, f"agreement, T = {temperature:g}"):
                for row in rows:
                    if row not in (CLOUD, NAIVE):
                        run = self._run(row, prompt, temperature)
                        runs.setdefault((row, temperature), []).append(run)
            drafting.append(self._drafting(prompts, temperature))
        if self._degenerate:
            drafting.append(self._drafting(self._degenerate, 0.0, degenerate=True))
        found = [
            self._compare(row, temperature, prompts, of_row)
            for (row, temperature), of_row in runs.items()
        ]
        return found, drafting

    def drafts(self, row: Row, run: Run, temperature: float) -> list[Draft]:
        """Return what the split's exit said along a completion, and whether it was right."""
        judged = self._judge(
            self._prompts[run.number], tuple(run.result.tokens), row.wire, temperature
        )
        commit_from = inf
        if row.mode == "bounded":
            request = GenerationRequest("x", temperature=temperature, **row.choices())
            commit_from = self._stage.engine(row).commitment(request).commit_from
        right = judged.drafts == judged.tokens
        return [
            Draft(float(confidence), bool(is_right), bool(confidence >= commit_from))
            for confidence, is_right in zip(judged.confidences, right, strict=True)
        ]

    def text(self, codec: CodecName, prompt: Prompt, temperature: float) -> tuple[int, ...]:
        """Return what `cloud` says with a codec at the split."""
        return self._cloud(prompt, codec, temperature)

    def _drafting(
        self, prompts: Sequence[Prompt], temperature: float, degenerate: bool = False
    ) -> Drafting:
        own = [self._own(prompt, temperature) for prompt in prompts]
        positions = sum(len(judged.tokens) for judged in own)
        return Drafting(degenerate, temperature, positions, acceptance(own), buckets(own))

    def _compare(
        self, row: Row, temperature: float, prompts: Sequence[Prompt], runs: Sequence[Run]
    ) -> Agreement:
        same = plain = tokens = identical = stalls = 0
        divergences = []
        for prompt, run in zip(prompts, runs, strict=True):
            own = tuple(run.result.tokens)
            cloud = self._cloud(prompt, row.wire, temperature)
            tokens += len(own)
            stalls += run.result.stalls
            same += self._agreeing(prompt, own, row.wire, temperature)
            plain += self._agreeing(prompt, own, "fp32", temperature)
            if own == cloud:
                identical += 1
            else:
                pairs = zip(own, cloud, strict=False)
                shorter = min(len(own), len(cloud))
                divergences.append(next((i for i, (a, b) in enumerate(pairs) if a != b), shorter))
        return Agreement(
            row,
            temperature,
            len(runs),
            tokens,
            same / tokens,
            plain / tokens,
            identical / len(runs),
            sorted(divergences)[len(divergences) // 2] if divergences else None,
            stalls / tokens,
        )

    def _agreeing(
        self, prompt: Prompt, tokens: tuple[int, ...], codec: CodecName, temperature: float
    ) -> int:
        judged = self._judge(prompt, tokens, codec, temperature)
        return int((judged.tokens == tokens).sum())

    def _own(self, prompt: Prompt, temperature: float) -> Judgement:
        text = self._cloud(prompt, "fp16", temperature)
        return self._judge(prompt, text, "fp16", temperature)

    def _judge_anew(
        self, prompt: Prompt, tokens: tuple[int, ...], codec: CodecName, temperature: float
    ) -> Judgement:
        sampling = Sampling(temperature, prompt.number)
        return self._reference.judge(self._tokenizer.encode(prompt.text), tokens, codec, sampling)

    def _cloud(self, prompt: Prompt, codec: CodecName, temperature: float) -> tuple[int, ...]:
        key = (codec, (prompt.number, temperature))
        if key not in self.texts:
            row = Row(f"cloud, {codec}", "reference", "cloud", wire=codec)
            run = self._run(row, prompt, temperature)
            self.texts[key] = tuple(run.result.tokens)
        return self.texts[key]

    def _run(self, row: Row, prompt: Prompt, temperature: float) -> Run:
        return self._stage.run(row, prompt.text, prompt.number, temperature, self._max_tokens)
