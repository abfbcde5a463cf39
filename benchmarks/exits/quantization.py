"""What each way to quantize costs the shipped models, on text they were not trained on.

    python -m updraft.benchmarks.exits.quantization --text FILE [--bundle FOLDER] [--work FOLDER]

The shipped weights are int8; what they stand for, widened to fp32, is the reference.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from updraft.benchmarks.exits.shipped import rebuild
from updraft.cli.options import AsJson
from updraft.models.bundle import open_bundle
from updraft.models.exits.passages import read_text
from updraft.models.fidelity import Effort, FidelityReport, compare
from updraft.models.manifest import Quantization
from updraft.models.shipped import shipped_bundle

WAYS: dict[str, Quantization] = {
    "int8, block 64": Quantization(weights="int8", block=64),
    "int8, block 128, int8 sums": Quantization(weights="int8", block=128, activations="int8"),
    "int4, block 32": Quantization(weights="int4", block=32),
    "int4, block 32, int8 sums": Quantization(weights="int4", block=32, activations="int8"),
    "int4, block 128": Quantization(weights="int4", block=128),
    "int4, block 128, int8 sums": Quantization(weights="int4", block=128, activations="int8"),
    "int4, block 128, head int8, int8 sums": Quantization(
        weights="int4", block=128, activations="int8", overrides={"head": "int8"}
    ),
    "fp16": Quantization(weights="fp16"),
    "fp32, KV int8": Quantization(weights="fp32", kv="int8"),
}

# Of each text; a tenth of what is scored.
_FITTED_CHARS = 20_000


def main(
    text: Annotated[list[Path], typer.Option(help="Plain text that the model was not trained on.")],
    bundle: Annotated[Path | None, typer.Option(help="A shipped bundle.")] = None,
    work: Annotated[Path | None, typer.Option(help="Folder for the bundles.")] = None,
    tokens: Annotated[int, typer.Option(help="Tokens for perplexity.")] = 16_384,
    items: Annotated[int, typer.Option(help="Items per task.")] = 400,
    as_json: AsJson = False,
) -> None:
    """Rebuild a shipped bundle in every way, and compare each with fp32."""
    shipped = open_bundle(bundle or shipped_bundle())
    texts = [read_text(path) for path in text]
    effort = Effort(tokens, items)
    with tempfile.TemporaryDirectory(dir=work) as scratch:
        folder = Path(scratch)
        reference = rebuild(shipped, folder / "reference", Quantization(weights="fp32"))
        found: dict[str, FidelityReport] = {}
        for number, (way, quantization) in enumerate(WAYS.items()):
            one = rebuild(shipped, folder / str(number), quantization, None, _fitted_on(texts))
            found[way] = compare(one, reference, texts, (), effort)
            ratio = found[way].perplexity_ratio.estimate
            print(f"{way}: perplexity ratio {ratio:.4f}", file=sys.stderr)
    if as_json:
        rows = {way: report.to_json() for way, report in found.items()}
        print(json.dumps({"bundle": shipped.manifest.name, "ways": rows}, indent=2))
        return
    show(found)


def _fitted_on(texts: list[str]) -> list[str]:
    """Return the start of each text."""
    return [text[:_FITTED_CHARS] for text in texts]


def show(found: dict[str, FidelityReport]) -> None:
    """Print a row for each way."""
    tasks = [task.task for task in next(iter(found.values())).tasks]
    table = Table("weights", "perplexity ratio", "same best token", *(f"{t} lost" for t in tasks))
    for way, report in found.items():
        ratio = report.perplexity_ratio
        losses = (
            f"{t.loss.estimate:+.4f} ({t.loss.low:+.3f} to {t.loss.high:+.3f})"
            for t in report.tasks
        )
        table.add_row(
            way,
            f"{ratio.estimate:.4f} ({ratio.low:.4f} to {ratio.high:.4f})",
            f"{report.agreement:.2%}",
            *losses,
        )
    Console(highlight=False, width=200).print(table)


if __name__ == "__main__":
    typer.run(main)
