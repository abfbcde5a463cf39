"""`updraft bundle import`: a checkpoint folder becomes a bundle."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import Annotated, Literal, cast, get_args

import typer

from updraft.cli.compare import check_limits
from updraft.cli.options import AsJson, shortlist_size
from updraft.cli.progress import stages
from updraft.errors import RequestError, RuntimeMissing
from updraft.models.fidelity import Limits
from updraft.models.manifest import Precision

_CACHES = ("fp32", "fp16", "int8")
_MAX_TEXT_BYTES = 1 << 20
_MOST_TEXTS = 64


def import_bundle(
    path: Annotated[Path, typer.Argument(help="Folder with config.json and safetensors files.")],
    output: Annotated[Path, typer.Option(help="Folder of the bundle; must not exist.")],
    split: Annotated[
        int | None, typer.Option(help="Layers that the edge holds; half of them by default.")
    ] = None,
    exits: Annotated[
        str | None,
        typer.Option(help="Layers done at each exit, as 6,12; the split is always one."),
    ] = None,
    precision: Annotated[str, typer.Option(help="Weights as int4, int8, fp16 or fp32.")] = "int4",
    block: Annotated[
        int | None, typer.Option(help="Weights that share one scale; 128 where it fits.")
    ] = None,
    kv: Annotated[str, typer.Option(help="Caches of keys and values as fp32 or int8.")] = "fp32",
    override: Annotated[
        list[str] | None,
        typer.Option(help="Precision of a part, as head=int8 or layers.0=int8; repeatable."),
    ] = None,
    context: Annotated[
        int | None, typer.Option(help="Positions to make room for; 4096 by default, or all.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the bundle; the folder's by default.")
    ] = None,
    text: Annotated[
        Path | None,
        typer.Option(help="Text like the model will see: fits wire codecs, and is what is judged."),
    ] = None,
    shortlist: Annotated[
        str, typer.Option(help="Tokens that exits choose among: a number, all, or auto.")
    ] = "auto",
    max_perplexity_ratio: Annotated[
        float | None, typer.Option(help="Refuse to write a bundle whose perplexity rises by more.")
    ] = None,
    max_task_loss: Annotated[
        float | None, typer.Option(help="Refuse to write a bundle whose scores fall by more.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a checkpoint folder into a bundle; call again to go on where it was interrupted.

    Read are Llama, SmolLM, Mistral, Qwen2, Qwen2.5, Qwen3, Mixtral, Qwen2-MoE and Qwen3-MoE.
    Exits before the last layer use the last layer's norm and head: that is what LayerSkip
    trains. For other checkpoints, train them with `updraft bundle train-exits`.
    """
    try:
        from updraft.models.checkpoints.importing import ImportPlan, import_checkpoint
    except ImportError as error:
        raise RuntimeMissing(f"{error}: pip install 'updraft[cpu,import]'") from error
    if kv not in _CACHES:
        raise RequestError(f"kv {kv!r} is unknown: choose from {', '.join(_CACHES)}")
    if context is not None and context < 1:
        raise RequestError(f"context {context}: at least 1 is needed")
    limits = Limits(max_perplexity_ratio, max_task_loss)
    check_limits(limits)
    if limits != Limits() and text is None:
        raise RequestError("a limit is about a text: give --text FILE to judge the bundle on")
    plan = ImportPlan(
        split=split,
        exits=None if exits is None else _numbers(exits),
        precision=_precision("precision", precision),
        block=block,
        kv=cast("Literal['fp32', 'fp16', 'int8']", kv),
        overrides=dict(map(_override, override or [])),
        context_length=context,
        name=name,
        texts=() if text is None else _texts(text),
        shortlist=shortlist_size(shortlist),
        limits=limits,
    )
    start = perf_counter()
    with stages() as report:
        bundle = import_checkpoint(path, output, plan, report)
    seconds = perf_counter() - start
    manifest = bundle.manifest
    size = sum(entry.bytes for entry in manifest.files.values())
    if as_json:
        found = {
            "bundle": str(bundle.folder),
            "fingerprint": bundle.fingerprint,
            "bytes": size,
            "split": manifest.split,
            "exits": [entry.layer for entry in manifest.exits],
            "precision": manifest.quantization.weights,
            "seconds": round(seconds, 3),
        }
        print(json.dumps(found))
        return
    layers = ", ".join(str(entry.layer) for entry in manifest.exits)
    print(
        f"{bundle.folder}: imported, {size / 1e6:.1f} MB in {seconds:.0f} s, {bundle.fingerprint}\n"
        f"split after layer {manifest.split}, exits after {layers}: "
        f"{manifest.provenance['exits']}; `updraft bundle train-exits` trains them"
    )


def _precision(what: str, text: str) -> Precision:
    if text not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise RequestError(f"{what} {text!r} is unknown: choose from {known}")
    return cast("Precision", text)


def _override(text: str) -> tuple[str, Precision]:
    part, found, precision = text.partition("=")
    if not found or not part:
        raise RequestError(f"override {text!r}: PART=PRECISION is expected, as layers.0=int8")
    return part, _precision(f"override {part}:", precision)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise RequestError(f"exits {text!r}: layers are expected, as 6,12") from None


def _texts(path: Path) -> tuple[str, ...]:
    """Return the start of a text file, cut at blank lines."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_TEXT_BYTES)
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from error
    parts = [part for part in content.decode(errors="replace").split("\n\n") if part.strip()]
    if not parts:
        raise RequestError(f"{path}: holds no text")
    return tuple(parts[:_MOST_TEXTS])
