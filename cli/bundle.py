"""`updraft bundle`: build, calibrate, inspect and verify bundles."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn
from rich.table import Table

from updraft.cli import bundle_import, calibrate, compare, train_exits
from updraft.cli.options import AsJson
from updraft.cli.progress import show_stages
from updraft.errors import BundleError, RequestError, RuntimeMissing
from updraft.models.bundle import Bundle, open_bundle
from updraft.models.guarantee import holds
from updraft.models.manifest import Precision
from updraft.models.shipped import shipped_bundle

if TYPE_CHECKING:
    from updraft.models.recipes.train import Progress as StepProgress

app = typer.Typer(help="Build, calibrate, inspect and verify bundles.", no_args_is_help=True)
app.command("import")(bundle_import.import_bundle)
app.command("calibrate")(calibrate.calibrate)
app.command("compare")(compare.compare_bundles)
app.command("train-exits")(train_exits.train_exits)

Folder = Annotated[Path | None, typer.Argument(help="Bundle folder; the shipped one by default.")]


class Recipe(str, Enum):
    """Recipes that Updraft comes with."""

    code = "code"
    family = "family"


@app.command()
def build(
    output: Annotated[Path, typer.Option(help="Folder of the bundle; must not exist.")],
    recipe: Annotated[Recipe, typer.Option(help="What to train.")] = Recipe.code,
    precision: Annotated[str, typer.Option(help="Weights as int8 or fp32.")] = "int8",
    work: Annotated[
        Path | None, typer.Option(help="Folder for checkpoints; OUTPUT.work by default.")
    ] = None,
) -> None:
    """Train a model by a recipe and write it as a bundle; call again to resume.

    `code` takes about an hour and a half on two cores with AVX-512 BF16, minutes on a GPU.
    `family`, five experts and a gate in one folder, takes about 40 minutes on one such core.
    """
    if output.exists():
        raise BundleError(f"{output}: exists already; remove it or choose another --output")
    if precision not in get_args(Precision):
        raise RequestError(f"precision {precision!r} is unknown: choose from int8, fp32")
    try:
        from updraft.models.recipes import code, family
    except ImportError as error:
        raise RuntimeMissing(f"{error}: pip install 'updraft[cpu,train]'") from error

    with Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as bars:
        report = show_stages(bars)

        def on_step(step: StepProgress) -> None:
            report("training", step.step, step.steps)
            if step.exit_accuracy is not None:
                shown = ", ".join(f"{n}: {a:.1%}" for n, a in step.exit_accuracy.items())
                bars.console.print(f"step {step.step}, loss {step.loss:.3f}, exits {shown}")

        folder = work or output.with_name(output.name + ".work")
        weights = cast("Precision", precision)
        if recipe is Recipe.family:
            bundles = family.build(folder, output, weights, on_step, report)
        else:
            bundles = [code.build(folder, output, weights, on_step, report)]
    for bundle in bundles:
        print(f"{bundle.folder}: built, {bundle.fingerprint}")


@app.command()
def verify(folder: Folder = None, as_json: AsJson = False) -> None:
    """Check every file of a bundle: hashes, shapes, paths, versions; load it; decode a token."""
    bundle = open_bundle(folder or shipped_bundle())
    _decode_one(bundle)
    size = sum(entry.bytes for entry in bundle.manifest.files.values())
    if as_json:
        found = {"bundle": str(bundle.folder), "fingerprint": bundle.fingerprint, "bytes": size}
        print(json.dumps(found))
        return
    files = len(bundle.manifest.files)
    print(f"{bundle.folder}: good, {files} files, {size / 1e6:.1f} MB, {bundle.fingerprint}")


@app.command()
def inspect(folder: Folder = None, as_json: AsJson = False) -> None:
    """Show what a bundle holds."""
    bundle = open_bundle(folder or shipped_bundle())
    manifest = bundle.manifest
    if as_json:
        found = manifest.model_dump(mode="json") | {"fingerprint": bundle.fingerprint}
        print(json.dumps(found, indent=2))
        return
    console, shape = Console(highlight=False), manifest.architecture
    console.print(f"[bold]{manifest.name}[/]  {bundle.fingerprint}")
    console.print(
        f"{shape.layers} layers × {shape.width}, {shape.heads} heads over {shape.kv_heads}, "
        f"{shape.vocabulary_size} tokens, context {shape.context_length} ({manifest.overflow}), "
        f"weights {manifest.quantization.weights}, split after layer {manifest.split}, exits "
        f"after {', '.join(str(exit_.layer) for exit_ in manifest.exits)}"
    )
    table = Table("partition", "layers", "MB", "ms per step")
    profile = manifest.profile
    for i, entry in enumerate(manifest.partitions):
        measured = f"{profile.partition_ms[i]:.3f}" if profile else "not measured"
        layers = f"{entry.first + 1}-{entry.last}"
        table.add_row(entry.file, layers, f"{manifest.files[entry.file].bytes / 1e6:.2f}", measured)
    for name in sorted(name for name in manifest.files if name.endswith(".data")):
        table.add_row(name, "weights", f"{manifest.files[name].bytes / 1e6:.2f}", "")
    for head in sorted({exit_.head for exit_ in manifest.exits}):
        measured = f"{profile.head_ms:.3f}" if profile else "not measured"
        table.add_row(head, "head", f"{manifest.files[head].bytes / 1e6:.2f}", measured)
    console.print(table)
    for guarantee in manifest.guarantees:
        kind = "guarantee" if holds(guarantee, bundle) else "void guarantee"
        console.print(f"{kind}: {calibrate.describe(guarantee)}")
    for key, value in manifest.provenance.items():
        console.print(f"{key}: {value}")


def _decode_one(bundle: Bundle) -> None:
    """Load every graph and run one token through, so that what is verified also works."""
    from updraft.models.runtime import RuntimeOptions
    from updraft.models.sampling import Sampling
    from updraft.models.sequence import Model
    from updraft.models.tokenizer import Tokenizer

    Tokenizer(bundle)
    layers = range(bundle.manifest.architecture.layers)
    model = Model.load(bundle, layers, RuntimeOptions())
    sequence = model.new_sequence()
    sequence.append([bundle.manifest.tokenizer.end_of_text])
    sequence.advance(model.top)
    for layer in model.layers:
        sequence.propose(layer, Sampling(), 1)
