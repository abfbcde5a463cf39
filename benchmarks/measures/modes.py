"""The modes side by side: what they cost, and how far their tokens are those of `cloud`."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from updraft.benchmarks.measures.bench import Bench
from updraft.benchmarks.measures.report import Section, Spread
from updraft.devices.meters.modelled import ACTIVE_POWER_W
from updraft.edge.request import GenerationResult, Mode
from updraft.models.card import Table
from updraft.models.manifest import Manifest

_THETAS = (0.5, 0.6, 0.7, 0.8, 0.9)
_STANDALONE_THETA = 0.8


class Setup(NamedTuple):
    """One row of the tables."""

    name: str
    mode: Mode
    theta: float

    def choices(self) -> dict[str, Any]:
        return {"mode": self.mode, "theta": self.theta}


_CLOUD = Setup("`cloud`", "cloud", 0)
_SETUPS = (
    Setup(f"`standalone`, θ = {_STANDALONE_THETA:g}", "standalone", _STANDALONE_THETA),
    _CLOUD,
    *(Setup(f"`threshold`, θ = {theta:g}", "threshold", theta) for theta in _THETAS),
)


@dataclass
class Totals:
    """All generations of one setup.

    Attributes:
        same_prefix: tokens equal to those of `cloud`, up to the first that differs.
        same_outputs: completions equal to those of `cloud` as a whole.
    """

    results: list[GenerationResult] = field(default_factory=list)
    same_prefix: int = 0
    same_outputs: int = 0

    def add(self, result: GenerationResult, cloud: GenerationResult) -> None:
        """Take a generation in, beside that of `cloud` for the same prompt."""
        self.results.append(result)
        pairs = zip(result.tokens, cloud.tokens, strict=False)
        shorter = min(len(result.tokens), len(cloud.tokens))
        self.same_prefix += next((i for i, (a, b) in enumerate(pairs) if a != b), shorter)
        self.same_outputs += result.tokens == cloud.tokens

    @property
    def tokens(self) -> int:
        return sum(len(result.tokens) for result in self.results)

    @property
    def edge_share(self) -> float:
        """Share of tokens that ended on the edge."""
        calls = sum(result.decisions["cloud"] for result in self.results)
        return 1 - calls / self.tokens

    def sum(self, name: str) -> float:
        """Add one figure of all results up."""
        return float(sum(getattr(result, name) for result in self.results))

    def spread(self, name: str) -> Spread:
        """Return how one figure spreads over the generations."""
        return Spread.of([getattr(result, name) for result in self.results])


def measure(bench: Bench) -> Section:
    """Complete each prompt in every mode before the next prompt, so that drift hits all alike."""
    prompts = bench.prompts(bench.plan.mode_prompts)
    totals = {setup: Totals() for setup in _SETUPS}
    for setup in _SETUPS:  # the first generation of a kind pays for what is made once
        bench.complete(prompts[0], **setup.choices())
    for prompt in bench.track(prompts, "modes side by side"):
        results = {setup: bench.complete(prompt, **setup.choices()) for setup in _SETUPS}
        for setup, result in results.items():
            totals[setup].add(result, results[_CLOUD])
    manifest = bench.bundle.manifest
    return Section(
        key="modes",
        tables=[_times(totals, bench), _work(totals, manifest)],
        figures={
            "prompts": len(prompts),
            "max_tokens": bench.plan.max_tokens,
            "rows": [_figures(setup, totals, manifest) for setup in _SETUPS],
        },
    )


def _layer_positions(setup: Setup, totals: Totals, manifest: Manifest) -> int:
    """Return positions times the layers that each went through in the cloud."""
    layers = manifest.architecture.layers
    if setup.mode == "threshold":
        layers -= manifest.split
    return int(totals.sum("cloud_positions")) * layers


def _times(totals: dict[Setup, Totals], bench: Bench) -> Table:
    rows = [
        (
            setup.name,
            total.spread("total_s").show(1e3),
            total.spread("edge_s").show(1e3),
            total.spread("cloud_s").show(1e3),
            total.spread("comm_s").show(1e3),
            _joules(total).show(1, 2),
        )
        for setup, total in totals.items()
    ]
    return Table(
        "Modes side by side: a completion's time",
        ("mode", "total, ms", "edge, ms", "cloud, ms", "communication, ms", "edge, J"),
        rows,
        f"Per completion of up to {bench.plan.max_tokens} tokens, median (quartiles) of "
        f"{len(totals[_CLOUD].results)}; greedy, fp16 wire, loopback. Edge and cloud: inside the "
        "runtime; communication: waited for the cloud less its computing, queues and gRPC "
        "included. In `cloud` the coordinator computes ahead while tokens travel. Joules are "
        f"modelled: {ACTIVE_POWER_W:g} W while the edge computes.",
    )


def _joules(total: Totals) -> Spread:
    return Spread.of([result.energy.joules for result in total.results])


def _work(totals: dict[Setup, Totals], manifest: Manifest) -> Table:
    cloud = totals[_CLOUD]
    rows = []
    for setup, total in totals.items():
        n = len(total.results)
        rows.append(
            (
                setup.name,
                f"{total.edge_share:.1%}",
                f"{total.sum('cloud_calls') / n:.1f}",
                f"{total.sum('cloud_positions') / n:.1f}",
                f"{_layer_positions(setup, total, manifest) / n:,.0f}",
                f"{total.sum('cloud_s') / cloud.sum('cloud_s'):.2f}",
                f"{total.sum('uplink_bytes') / n / 1000:.2f}",
                f"{total.sum('downlink_bytes') / n / 1000:.2f}",
                f"{total.same_prefix / cloud.tokens:.1%}",
                f"{total.same_outputs / n:.1%}",
            )
        )
    split, layers = manifest.split, manifest.architecture.layers
    return Table(
        "Modes side by side: work, bytes, agreement",
        ("mode", "ended on the edge", "cloud calls", "cloud positions", "cloud layer-positions",
         "cloud seconds ÷ `cloud`", "KB up", "KB down", "same prefix", "same outputs"),
        rows,
        f"Means per completion. Cloud positions count catch-up; each runs {layers} layers in "
        f"`cloud` and {layers - split} in `threshold`, which gives layer-positions. Same prefix: "
        "tokens equal to those of `cloud` before the first that differs; after it the texts are "
        "different texts, so this is stricter than agreement at the same prefix (model.md).",
    )  # fmt: skip


def _figures(setup: Setup, totals: dict[Setup, Totals], manifest: Manifest) -> dict[str, Any]:
    total, cloud = totals[setup], totals[_CLOUD]
    return {
        **setup._asdict(),
        "tokens": total.tokens,
        "edge_share": total.edge_share,
        "seconds": {
            name: asdict(total.spread(f"{name}_s")) for name in ("total", "edge", "cloud", "comm")
        },
        "joules": asdict(_joules(total)),
        "cloud_calls": int(total.sum("cloud_calls")),
        "cloud_positions": int(total.sum("cloud_positions")),
        "cloud_layer_positions": _layer_positions(setup, total, manifest),
        "cloud_seconds_ratio": total.sum("cloud_s") / cloud.sum("cloud_s"),
        "uplink_bytes": int(total.sum("uplink_bytes")),
        "downlink_bytes": int(total.sum("downlink_bytes")),
        "same_prefix": total.same_prefix / cloud.tokens,
        "same_outputs": total.same_outputs / len(total.results),
    }
