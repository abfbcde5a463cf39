"""Measure a bundle's exits and cascade on held-out code; write tables, figures and a plot.

python benchmarks/model.py                    the shipped bundle, into docs/results
python benchmarks/model.py --bundle FOLDER    another one
python benchmarks/model.py --quick            20,000 tokens, printed only
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
from rich.console import Console
from rich.progress import Progress

from updraft.benchmarks.measures.report import ROOT, commit, machine, now, terminal, write
from updraft.cli.progress import show_stages
from updraft.models.bundle import Bundle, open_bundle
from updraft.models.card import tables
from updraft.models.evaluate import ModelReport, Settings, evaluate_bundle
from updraft.models.recipes.corpus import read_standard_library
from updraft.models.shipped import shipped_bundle

QUICK = Settings(max_tokens=20_000, calibration_tokens=20_000, lines=50)
# What the demo bundle is to reach: agreement with full depth, and share ended on the edge.
EDGE_TARGET = 0.45

# Okabe and Ito: told apart with any colour vision, and in grey.
_FILLS = ("#56B4E9", "#A6D8F5", "#D6EDFA")
_AGREEMENT, _ACCURACY, _CHOSEN = "#009E73", "#D55E00", "#000000"


@dataclass(frozen=True)
class Context:
    """Where figures come from: without it they cannot be compared."""

    commit: str
    machine: str
    measured: str
    seconds: float


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--bundle", type=Path, default=shipped_bundle(), help="bundle folder")
    parser.add_argument("--quick", action="store_true", help="20,000 tokens, a few seconds")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for model.md, model.json and theta.png; docs/results by default, with "
        "--quick nothing is written unless this is given",
    )
    arguments = parser.parse_args()
    console = Console(stderr=arguments.json)
    report, context = measure(
        open_bundle(arguments.bundle), QUICK if arguments.quick else Settings(), console
    )
    result = {"context": vars(context), "report": report.to_json()}
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        for table in tables(report):
            console.print(terminal(table))
    folder = arguments.output or (None if arguments.quick else ROOT / "docs" / "results")
    if folder is not None:
        write_results(folder, report, context, result)
        console.print(f"wrote model.md, model.json and theta.png into {folder}")


def measure(bundle: Bundle, settings: Settings, console: Console) -> tuple[ModelReport, Context]:
    """Measure a bundle and note where, when and how long."""
    started = perf_counter()
    with Progress(console=console, transient=True) as progress:
        report = evaluate_bundle(bundle, read_standard_library(), settings, show_stages(progress))
    context = Context(
        commit=commit(),
        machine=machine(),
        measured=now(),
        seconds=round(perf_counter() - started, 1),
    )
    return report, context


def write_results(
    folder: Path, report: ModelReport, context: Context, result: dict[str, Any]
) -> None:
    """Write the tables, the figures and the plot; each file whole or not at all."""
    write(folder / "model.md", _markdown(report, context))
    text = json.dumps(result, ensure_ascii=False, indent=1) + "\n"
    write(folder / "model.json", text)
    draft = folder / "theta.tmp.png"
    plot(report, draft)
    draft.replace(folder / "theta.png")


def plot(report: ModelReport, path: Path) -> None:
    """Plot the cascade over θ: where tokens end, agreement with full depth, and accuracy."""
    mpl.use("Agg")
    scores = [score for score in report.cascade if score.theta <= 1]
    thetas = [score.theta for score in scores]
    edge = list(report.chosen.ended)[:-1]
    figure, axes = plt.subplots(figsize=(8, 4.8), layout="constrained")
    axes.stackplot(
        thetas,
        [[score.ended[layer] for score in scores] for layer in edge],
        labels=[f"ended at exit {layer}" for layer in edge],
        colors=_FILLS,
    )
    agreement = [score.agreement for score in scores]
    accuracy = [score.accuracy for score in scores]
    axes.plot(thetas, agreement, color=_AGREEMENT, linewidth=2.2, label="agrees with full depth")
    axes.plot(thetas, accuracy, "--", color=_ACCURACY, linewidth=2.2, label="accuracy")
    for target, text, below in (
        (report.agreement_target, f"{report.agreement_target:.0%} agreement", True),
        (EDGE_TARGET, f"{EDGE_TARGET:.0%} on the edge", False),
    ):
        axes.axhline(target, color="#555555", linewidth=0.9, linestyle=":")
        axes.annotate(
            text,
            (0.995, target),
            (0, -4 if below else 3),
            textcoords="offset points",
            fontsize=8.5,
            horizontalalignment="right",
            verticalalignment="top" if below else "bottom",
        )
    axes.axvline(report.theta, color=_CHOSEN, linewidth=1.2)
    axes.annotate(
        f"θ = {report.theta:g}: {report.chosen.edge:.1%} on the edge,\n"
        f"{report.chosen.agreement:.1%} agree with full depth",
        (report.theta, 0.75),
        (6, 0),
        textcoords="offset points",
        fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2},
    )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence threshold θ", ylabel="share of tokens")
    axes.yaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0))
    axes.set_title(f"{report.bundle}: {report.tokens:,} held-out tokens", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=2 + len(edge), frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _markdown(report: ModelReport, context: Context) -> str:
    head = [
        "# The demo model, measured",
        "",
        f"Bundle `{report.bundle}` ({report.fingerprint[:12]}), {report.tokens:,} tokens of "
        f"{report.files} held-out files of {report.corpus}'s standard library, "
        f"{report.test_share:.0%} of them test code; seed {report.seed}. Commit "
        f"{context.commit[:12]}, {context.machine}, {context.measured}, {context.seconds:g} s. "
        "Written by `python benchmarks/model.py`; the protocol stands in `models/evaluate.py`.",
        "",
        "![Share of tokens over the threshold](theta.png)",
        "",
    ]
    return "\n".join([*head, *(table.markdown() for table in tables(report))])


if __name__ == "__main__":
    main()
