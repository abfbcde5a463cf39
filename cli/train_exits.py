"""`updraft bundle train-exits`: exit heads for a model that was trained without them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from updraft.cli.options import AsJson, shortlist_size
from updraft.cli.progress import stages
from updraft.errors import BundleError, RequestError, RuntimeMissing
from updraft.models.bundle import open_bundle
from updraft.models.exits.passages import read_text
from updraft.models.runtime import RuntimeOptions

if TYPE_CHECKING:
    from updraft.models.exits.train import TrainingReport

_MOST_RANK = 4096


def train_exits(
    folder: Annotated[Path, typer.Argument(help="Bundle folder; it stays as it is.")],
    text: Annotated[
        list[Path], typer.Option(help="Plain text like yours; give it again for more.")
    ],
    output: Annotated[Path, typer.Option(help="Folder of the new bundle; must not exist.")],
    exits: Annotated[
        str, typer.Option(help="Layers, as 6,12; all exits that the edge can take by default.")
    ] = "",
    rank: Annotated[int, typer.Option(help="Width of the adapters.")] = 64,
    shortlist: Annotated[
        str, typer.Option(help="Tokens that exits choose among: a number, all, or auto.")
    ] = "auto",
    tokens: Annotated[int, typer.Option(help="Tokens of the text used at most.")] = 200_000,
    steps: Annotated[int, typer.Option(help="Steps of 512 tokens for each exit.")] = 1500,
    minutes: Annotated[
        float | None, typer.Option(help="Stop training after so many, all exits together.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads; 0 takes as many as pay.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of weights and of what is drawn.")] = 0,
    work: Annotated[
        Path | None, typer.Option(help="Folder for work in progress; OUTPUT.work by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Teach the exits of a bundle to say what the whole model says, on your own text.

    The layers stay as they are. Each exit gets a small adapter and a norm of its own, trained
    towards the full depth. Call again to go on where a run was stopped.
    """
    for name, value, most in (
        ("rank", rank, _MOST_RANK), ("tokens", tokens, 1 << 30), ("steps", steps, 1 << 24),
    ):  # fmt: skip
        if not 1 <= value <= most:
            raise RequestError(f"{name} {value} lies outside 1 to {most}")
    if minutes is not None and minutes <= 0:
        raise RequestError(f"minutes {minutes:g} must be above 0")
    if not 0 <= threads <= 1024:
        raise RequestError(f"threads {threads} lies outside 0 to 1024")
    layers, size = _layers(exits), shortlist_size(shortlist)
    try:
        import torch

        from updraft.models.exits import train
    except ImportError as error:
        raise RuntimeMissing(f"{error}: pip install 'updraft[cpu,train]'") from error
    if threads:
        torch.set_num_threads(threads)
    if output.exists():
        raise BundleError(f"{output}: exists already; remove it or choose another --output")
    bundle = open_bundle(folder)
    texts = [read_text(path) for path in text]
    options = RuntimeOptions(threads=threads)
    plan = train.ExitPlan(layers, rank, size, tokens, steps, minutes, seed, options)
    place = work or output.with_name(output.name + ".work")
    with stages() as report:
        found = train.train_exits(bundle, texts, output, place, plan, report)
    if as_json:
        print(json.dumps({"bundle": str(output), **found.to_json()}, indent=2))
        return
    _show(found)
    print(f"{output}: written, {found.fingerprint}; {place} can be removed")


def _layers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise RequestError(f"exits {text!r}: layers are expected, as 6,12") from None


def _show(found: TrainingReport) -> None:
    console = Console(highlight=False)
    console.print(
        f"{found.trained_tokens} tokens trained on, {found.heldout_tokens} held out; shortlist of "
        f"{found.shortlist} of {found.vocabulary} tokens: {found.text_coverage:.2%} of the "
        f"held-out text, {found.full_depth_coverage:.2%} of what the full depth says there",
        soft_wrap=True,
    )
    table = Table("exit", "agreement", "divergence, nats", "acceptance")
    for trained in found.exits:
        before, after = trained.before, trained.after
        table.add_row(
            str(trained.layer),
            f"{before.agreement:.2%} → {after.agreement:.2%}",
            f"{before.kl:.3f} → {after.kl:.3f}",
            f"{before.acceptance:.2%} → {after.acceptance:.2%}",
        )
    console.print(table)
