"""Whether modes that promise the same tokens give the same tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from updraft.benchmarks.measures.bench import Bench
from updraft.benchmarks.measures.report import Section
from updraft.models.card import Table
from updraft.models.sampling import Sampling

if TYPE_CHECKING:
    from updraft.benchmarks.torch_reference import TorchReference

_TEMPERATURES = (0.0, 0.8)
# More than any confidence: no exit is taken.
_NEVER = 1.5

_FULL = "`cloud` = `full`"
_TORCH = "`cloud` = plain torch"
_THRESHOLD = f"`threshold`, θ = {_NEVER:g}, fp32 wire = `cloud`"

_NOTE = (
    "Torch: the bundle's own weights in fp32, one pass over prompt and completion, no cache; the "
    "token chosen at each position, given the text before it, must be the produced one. By "
    "induction that is the same as decoding token by token. "
)


@dataclass
class Comparison:
    """Tokens of two ways to decode the same prompts.

    Attributes:
        different: where they part, at most one entry per prompt.
    """

    what: str
    temperature: float
    prompts: int = 0
    tokens: int = 0
    different: list[str] = field(default_factory=list)

    def add(self, number: int, one: list[int], other: list[int]) -> None:
        """Compare the completions of prompt `number`."""
        self.prompts += 1
        self.tokens += len(one)
        if one != other:
            pairs = zip(one, other, strict=False)
            first = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
            self.different.append(f"prompt {number}, new token {first}")


def measure(bench: Bench) -> Section:
    """Decode the same prompts in every way that promises the same tokens."""
    prompts = bench.prompts(bench.plan.exact_prompts)
    reference = _load_reference(bench)
    comparisons: list[Comparison] = []
    gaps: list[float] = []
    for temperature in _TEMPERATURES:
        rows = {what: Comparison(what, temperature) for what in (_FULL, _TORCH, _THRESHOLD)}
        for number in bench.track(range(len(prompts)), f"exactness, T = {temperature:g}"):
            gap = _compare(bench, rows, number, prompts[number], reference)
            if temperature == 0:
                gaps.append(gap)
        comparisons += rows.values()
    smallest = min(gaps) if reference is not None else None
    return Section(
        key="exactness",
        tables=[_table(comparisons, smallest)],
        figures={
            "torch": reference is not None,
            "smallest_gap": smallest,
            "comparisons": [vars(row) for row in comparisons],
        },
        failures=[
            f"{row.what}, T = {row.temperature:g}: {'; '.join(row.different[:5])}"
            for row in comparisons
            if row.different
        ],
    )


def _compare(
    bench: Bench,
    rows: dict[str, Comparison],
    number: int,
    prompt: str,
    reference: TorchReference | None,
) -> float:
    """Decode one prompt in every way; returns the reference's smallest gap between best logits."""
    sampling = Sampling(rows[_FULL].temperature, seed=number)
    choices = {"temperature": sampling.temperature, "seed": sampling.seed}
    cloud = bench.complete(prompt, mode="cloud", **choices).tokens
    rows[_FULL].add(number, cloud, bench.complete(prompt, mode="full", **choices).tokens)
    threshold = bench.complete(prompt, mode="threshold", theta=_NEVER, wire="fp32", **choices)
    rows[_THRESHOLD].add(number, cloud, threshold.tokens)
    if reference is None:
        return 0.0
    forced = reference.force(bench.engine.tokenizer.encode(prompt), cloud, sampling)
    rows[_TORCH].add(number, cloud, forced.tokens)
    return float(forced.gaps.min())


def _load_reference(bench: Bench) -> TorchReference | None:
    if find_spec("torch") is None or find_spec("onnx") is None:
        return None
    from updraft.benchmarks.torch_reference import TorchReference  # noqa: PLC0415  # needs the train extra

    return TorchReference(bench.bundle)


def _table(comparisons: list[Comparison], smallest_gap: float | None) -> Table:
    note = _NOTE
    if smallest_gap is not None:
        note += f"Closest call, greedy: {smallest_gap:.1e} between two logits."
    return Table(
        "Exactness",
        ("same tokens", "sampling", "prompts", "tokens", "prompts that differ"),
        [
            (
                row.what,
                "greedy" if row.temperature == 0 else f"T = {row.temperature:g}",
                f"{row.prompts:,}",
                f"{row.tokens:,}",
                f"**{len(row.different)}**" if row.prompts else "needs the train extra",
            )
            for row in comparisons
        ],
        note,
    )
