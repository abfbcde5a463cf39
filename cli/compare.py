"""`updraft bundle compare`: what a bundle lost against its reference, and whether too much."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from updraft.cli.options import AsJson
from updraft.cli.progress import stages
from updraft.cli.prompt_file import read_rows
from updraft.errors import BundleError, RequestError, RuntimeMissing
from updraft.models.bundle import MANIFEST, Bundle, open_bundle
from updraft.models.exits.passages import read_text
from updraft.models.fidelity import Effort, FidelityReport, Limits, compare, first_token
from updraft.models.runtime import RuntimeOptions
from updraft.models.tasks import Item, read_item
from updraft.models.tokenizer import Tokenizer

_MOST_PROMPTS = 10_000


def compare_bundles(
    folder: Annotated[Path, typer.Argument(help="Bundle folder.")],
    reference: Annotated[
        Path, typer.Option(help="The checkpoint, which is taken in fp32, or a bundle of it.")
    ],
    text: Annotated[
        list[Path], typer.Option(help="Plain text like yours; give it again for more.")
    ],
    prompts: Annotated[
        Path | None,
        typer.Option(help='JSON lines: a "prompt" with a "completion", or "choices" and "answer".'),
    ] = None,
    max_perplexity_ratio: Annotated[
        float | None, typer.Option(help="Refuse a bundle whose perplexity rises by more.")
    ] = None,
    max_task_loss: Annotated[
        float | None, typer.Option(help="Refuse a bundle whose score falls by more, from 0 to 1.")
    ] = None,
    tokens: Annotated[int, typer.Option(help="Tokens of the text scored at most.")] = 16_384,
    items: Annotated[int, typer.Option(help="Items of each task made from the text.")] = 200,
    threads: Annotated[int, typer.Option(help="Threads; 0 takes as many as pay.")] = 0,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Compare a bundle with a reference: perplexity, and tasks on your own text.

    With a limit it is a gate: the command fails, and says both values, where the bundle is worse.
    """
    limits = Limits(max_perplexity_ratio, max_task_loss)
    check_limits(limits)
    for name, value in (("tokens", tokens), ("items", items)):
        if value < 1:
            raise RequestError(f"{name} {value} is too small: at least 1 is needed")
    if not 0 <= threads <= 1024:
        raise RequestError(f"threads {threads} lies outside 0 to 1024")
    bundle = open_bundle(folder)
    texts = [read_text(path) for path in text]
    own = read_items(prompts, bundle) if prompts else []
    effort = Effort(tokens, items, seed, RuntimeOptions(threads=threads))
    with stages() as report, _opened(reference, bundle, report) as other:
        found = compare(bundle, other, texts, own, effort, report)
    faults = found.faults(limits)
    if as_json:
        print(json.dumps(found.to_json() | {"faults": faults}, indent=2))
    else:
        show_report(found)
    if faults:
        raise BundleError(f"{folder}: refused: {'; '.join(faults)}")


@contextmanager
def _opened(
    reference: Path, like: Bundle, report: Callable[[str, int, int], None]
) -> Iterator[Bundle]:
    """Open a bundle; a checkpoint becomes one in fp32 for the time being."""
    if (reference / MANIFEST).exists() or not (reference / "config.json").is_file():
        yield open_bundle(reference)
        return
    try:
        from updraft.models.checkpoints.importing import ImportPlan, import_checkpoint
    except ImportError as error:
        raise RuntimeMissing(f"{error}: pip install 'updraft[cpu,import]'") from error
    context = like.manifest.architecture.context_length
    plan = ImportPlan(precision="fp32", context_length=context, split=like.manifest.split)
    with TemporaryDirectory(prefix="updraft-") as scratch:
        yield import_checkpoint(reference, Path(scratch) / "fp32", plan, report)


def check_limits(limits: Limits) -> None:
    """Refuse limits that mean nothing.

    Raises:
        RequestError: naming the option.
    """
    if limits.perplexity_ratio is not None and limits.perplexity_ratio <= 0:
        raise RequestError(
            f"--max-perplexity-ratio {limits.perplexity_ratio:g} must be above 0; 1 is as good as "
            "the reference"
        )
    if limits.task_loss is not None and not 0 <= limits.task_loss < 1:
        raise RequestError(f"--max-task-loss {limits.task_loss:g} must be from 0 to below 1")


def read_items(path: Path, bundle: Bundle) -> list[Item]:
    """Read a user's tasks.

    Raises:
        RequestError: naming the file, the line and what is wrong with it.
    """
    tokenizer, start = Tokenizer(bundle), first_token(bundle)
    context = bundle.manifest.architecture.context_length
    items: list[Item] = []
    for number, row in read_rows(path):
        if len(items) == _MOST_PROMPTS:
            raise RequestError(f"{path}: more than {_MOST_PROMPTS} prompts")
        try:
            items.append(read_item(row, tokenizer, start, context))
        except RequestError as error:
            raise RequestError(f"{path}:{number}: {error}") from error
    if not items:
        raise RequestError(f"{path}: holds no prompt")
    return items


def show_report(found: FidelityReport) -> None:
    """Print a report for people."""
    console = Console(highlight=False)
    ratio = found.perplexity_ratio
    console.print(
        f"perplexity {found.perplexity:.4f}, reference {found.reference_perplexity:.4f} on "
        f"{found.tokens} tokens: ratio {ratio.estimate:.4f} ({ratio.low:.4f} to {ratio.high:.4f}); "
        f"the same best token at {found.agreement:.2%} of positions",
        soft_wrap=True,
    )
    table = Table("task", "items", "reference", "bundle", "loss", "95% interval")
    for task in found.tasks:
        loss = task.loss
        table.add_row(
            task.task, str(task.items), f"{task.reference:.4f}", f"{task.bundle:.4f}",
            f"{loss.estimate:+.4f}", f"{loss.low:+.4f} to {loss.high:+.4f}",
        )  # fmt: skip
    console.print(table)
