"""The figures to reach, and whether they were."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from updraft.benchmarks.engine.contenders import (
    CUT,
    EXIT,
    GENAI,
    GENAI_128,
    LLAMA_Q4,
    OPENVINO,
    UPDRAFT,
    WHOLE,
    Contender,
)
from updraft.benchmarks.engine.samples import Estimate, Series, estimate, ratio
from updraft.benchmarks.engine.shapes import QWEN25_05B, SMALL, Shape
from updraft.models.card import Table

Verdict = Literal["reached", "reached, not beyond doubt", "missed", "not measured", "reported"]
# Returns a contender's samples, if it was measured.
Find = Callable[[Contender], Series | None]


@dataclass(frozen=True)
class Figure:
    """One figure to reach.

    Attributes:
        wanted: None: it is only reported.
        at_least: whether more is better.
    """

    shape: str
    name: str
    unit: str
    wanted: float | None
    seen: Estimate | None
    at_least: bool = True

    @property
    def verdict(self) -> Verdict:
        """Judge the value; beyond doubt when all of its interval is good enough too."""
        if self.seen is None:
            return "not measured"
        if self.wanted is None:
            return "reported"
        worst = self.seen.low if self.at_least else self.seen.high
        if not self._is_met_by(self.seen.value):
            return "missed"
        return "reached" if self._is_met_by(worst) else "reached, not beyond doubt"

    def as_json(self) -> dict[str, Any]:
        """Return the figure for programs."""
        seen = self.seen
        return {
            "shape": self.shape,
            "figure": self.name,
            "unit": self.unit,
            "wanted": self.wanted,
            "at_least": self.at_least,
            "seen": None if seen is None else seen.value,
            "interval": None if seen is None else [seen.low, seen.high],
            "verdict": self.verdict,
        }

    def as_row(self) -> tuple[str, ...]:
        """Return the figure as a row of the table."""
        sign = "≥" if self.at_least else "≤"
        wanted = "" if self.wanted is None else f"{sign} {self.wanted:g} {self.unit}".rstrip()
        seen, interval = "", ""
        if self.seen is not None:
            seen = f"{self.seen.value:.2f} {self.unit}".rstrip()
            interval = f"{self.seen.low:.2f} to {self.seen.high:.2f}"
        return (self.shape, self.name, wanted, seen, interval, self.verdict)

    def _is_met_by(self, value: float) -> bool:
        assert self.wanted is not None, "what is only reported is not judged"
        return value >= self.wanted if self.at_least else value <= self.wanted


def figure_table(figures: Sequence[Figure]) -> Table:
    """Return all figures with what was seen."""
    return Table(
        "Figures to reach",
        ("shape", "figure", "wanted", "seen", "95% interval", ""),
        [figure.as_row() for figure in figures],
        "Ratios of medians in one run, interleaved; intervals by bootstrap over rounds, in which "
        "what is compared is drawn together.",
    )


def figures_of(
    shape: Shape, find: Find, to_reach: Sequence[Contender], predicted_bytes: int | None
) -> list[Figure]:
    """Return the figures of one shape; what is wanted holds for the shapes that it was named for.

    Args:
        to_reach: whose best decode rate is to be reached.
        predicted_bytes: memory of ours, as said before it is loaded.
    """
    is_judged = shape == QWEN25_05B

    def figure(
        name: str, unit: str, wanted: float, seen: Estimate | None, at_least: bool = True
    ) -> Figure:
        return Figure(shape.name, name, unit, wanted if is_judged else None, seen, at_least)

    ours, best = find(UPDRAFT), _fastest(to_reach, find)
    found = [
        figure(
            f"decode ÷ {best.contender.name if best else 'the best rival'}, the best", "×", 1.0,
            _ratio(ours, best, _decode),
        ),
        figure(
            f"decode ÷ {GENAI.name}", "×", 1.3, _ratio(ours, find(GENAI), _decode),
        ),
        figure(
            f"prefill ÷ {LLAMA_Q4.name}", "×", 1.2, _ratio(ours, find(LLAMA_Q4), _prefill),
        ),
        Figure(
            shape.name, f"prefill ÷ {OPENVINO.name}", "×", None,
            _ratio(ours, find(OPENVINO), _prefill),
        ),
        figure(
            f"peak memory ÷ {LLAMA_Q4.name}", "×", 0.8,
            _ratio(ours, find(LLAMA_Q4), lambda series: series.peak_bytes), at_least=False,
        ),
        figure(
            "decode, share of the bandwidth bound", "", 0.8,
            None if ours is None else estimate(ours.bound_shares),
        ),
        figure(
            "decode at the mid exit ÷ full depth", "×", 1.9, _ratio(find(EXIT), ours, _decode),
        ),
        figure(
            "cold start to the first token", "s", 2.0,
            None if ours is None else estimate(ours.cold_s), at_least=False,
        ),
        figure(
            "peak memory, off from what was predicted", "", 0.05,
            _off(ours, predicted_bytes), at_least=False,
        ),
        Figure(
            shape.name, "step cut ÷ whole", "×", 1.1,
            _ratio(find(CUT), find(WHOLE), lambda series: series.step_s), at_least=False,
        ),
    ]  # fmt: skip
    if shape == SMALL:
        genai = _fastest((GENAI_128, GENAI), find)
        name = f"step ÷ {genai.contender.name if genai else 'onnxruntime-genai'}"
        seen = _ratio(ours, genai, lambda series: series.step_s)
        found.append(Figure(shape.name, name, "×", 1.0, seen, at_least=False))
    return found


def _decode(series: Series) -> list[float]:
    return series.decode_rates


def _prefill(series: Series) -> list[float]:
    return series.prefill_rates


def _fastest(contenders: Sequence[Contender], find: Find) -> Series | None:
    found = [series for series in map(find, contenders) if series is not None]
    return max(found, key=lambda series: median(series.decode_rates), default=None)


def _ratio(
    over: Series | None, under: Series | None, values: Callable[[Series], list[float]]
) -> Estimate | None:
    return None if over is None or under is None else ratio(values(over), values(under))


def _off(ours: Series | None, predicted_bytes: int | None) -> Estimate | None:
    if ours is None or predicted_bytes is None:
        return None
    return estimate([abs(peak / predicted_bytes - 1) for peak in ours.peak_bytes])
