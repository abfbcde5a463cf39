"""`updraft bundle calibrate`: certify the λ of mode `bounded` and store it in the bundle."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.table import Table

from updraft.cli.progress import stages
from updraft.cli.prompt_file import read_prompts
from updraft.edge.request import GenerationRequest
from updraft.errors import BundleError, RequestError
from updraft.models.bundle import Bundle, open_bundle, write_manifest
from updraft.models.exits.confidences import fit_confidences
from updraft.models.exits.passages import TEXTS, cut_prompts, read_text, text_digest
from updraft.models.fidelity import first_token
from updraft.models.guarantee import Calibrator, Terms, keep_guarantees, refuse_test_prompts
from updraft.models.manifest import CodecName, Guarantee
from updraft.models.risk import Trial
from updraft.models.shipped import shipped_bundle
from updraft.models.tokenizer import Tokenizer

_TEST_PROMPTS = "prompts.jsonl"
# Of prompts that are cut from a text, where the context is long enough.
_PROMPT_TOKENS = 96


def calibrate(
    prompts: Annotated[
        Path | None, typer.Option(help='JSON lines, each with a "prompt"; none that is tested on.')
    ] = None,
    folder: Annotated[
        Path | None, typer.Argument(help="Bundle folder; the shipped one by default.")
    ] = None,
    epsilon: Annotated[
        list[float] | None,
        typer.Option(help="Accepted risk, 0.02 by default; give it again for another one."),
    ] = None,
    delta: Annotated[float, typer.Option(help="Accepted chance of a greater risk.")] = 0.05,
    wire: Annotated[str, typer.Option(help="Codec of the states.")] = "fp16",
    temperature: Annotated[float, typer.Option(help="0 takes the best token.")] = 0.0,
    max_tokens: Annotated[int, typer.Option(help="Most new tokens per prompt.")] = 64,
    text: Annotated[
        list[Path] | None,
        typer.Option(help="Plain text to cut prompts from, in place of --prompts; repeatable."),
    ] = None,
    sequences: Annotated[int, typer.Option(help="Prompts cut from --text at most.")] = 400,
    output: Annotated[
        Path | None, typer.Option(help="Write a calibrated copy; must not exist.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Certify from which confidence on mode `bounded` may keep the device's own tokens.

    Of the tokens that a sequence keeps, at most a share of epsilon on average are such that the
    whole model would have said another one: with probability 1 - delta over the prompts given.
    """
    accepted = sorted({*(epsilon or [0.02])})
    for name, value in (*(("epsilon", value) for value in accepted), ("delta", delta)):
        if not 0 < value < 1:
            raise RequestError(f"{name} {value:g} lies outside 0 to 1, both excluded")
    terms = Terms(cast("CodecName", wire), temperature, max_tokens)
    # What a request may ask for has one home.
    GenerationRequest("", "full", wire=terms.wire, temperature=temperature, max_tokens=max_tokens)
    bundle = before = open_bundle(folder or shipped_bundle())
    _check_target(bundle, output)
    with stages() as report:
        bundle, texts, digest = _read(bundle, prompts, text or [], terms, sequences, report)
    tests = bundle.path(_TEST_PROMPTS)
    refuse_test_prompts(texts, list(read_prompts(tests)) if tests.is_file() else [])
    with stages() as report:
        calibrator = Calibrator(bundle, texts, digest, terms, report)
        found = [calibrator.certify(value, delta) for value in accepted]
    guarantees = [guarantee for guarantee, _ in found]
    if output is not None:
        bundle = _copy(bundle, output)
    if bundle.manifest.exits != before.manifest.exits:
        # The manifest is read again: another calibration may have ended meanwhile.
        current = open_bundle(bundle.folder).manifest
        fitted = {"exits": bundle.manifest.exits}
        write_manifest(bundle.folder, current.model_copy(update=fitted))
    bundle = keep_guarantees(bundle, guarantees)
    if as_json:
        print(json.dumps(_to_json(bundle, found), indent=2))
        return
    for guarantee, trials in found:
        _show(guarantee, trials)
    print(f"{bundle.folder}: stored, {bundle.fingerprint}")


def _read(
    bundle: Bundle,
    prompts: Path | None,
    texts: Sequence[Path],
    terms: Terms,
    sequences: int,
    report: Callable[[str, int, int], None],
) -> tuple[Bundle, list[str], str]:
    """Return the bundle with exits that have a confidence, the prompts, and their digest."""
    if (prompts is None) == (not texts):
        raise RequestError("give either --prompts FILE.jsonl or --text FILE to calibrate on")
    if prompts is not None:
        found = list(read_prompts(prompts))
        if not found:
            raise RequestError(f"{prompts}: holds no prompt")
        return bundle, found, hashlib.sha256(prompts.read_bytes()).hexdigest()
    if sequences < 1:
        raise RequestError(f"sequences {sequences} is too small: at least 1 is needed")
    contents = [read_text(path) for path in texts]
    trained = str(bundle.manifest.provenance.get(TEXTS, "")).split()
    for path, content in zip(texts, contents, strict=True):
        if text_digest(content) in trained:
            raise RequestError(
                f"{path}: the exits of {bundle.manifest.name!r} were trained on this text, which "
                "would praise them: give another"
            )
    room = bundle.manifest.architecture.context_length - terms.max_tokens
    if room < 2:
        raise RequestError(
            f"max_tokens {terms.max_tokens} leaves no room for a prompt in a context of "
            f"{bundle.manifest.architecture.context_length}"
        )
    # A prompt that is cut from a text may come back as some tokens more.
    length = max(1, min(_PROMPT_TOKENS, room * 3 // 4))
    cut, windows = cut_prompts(Tokenizer(bundle), contents, first_token(bundle), length, sequences)
    digest = hashlib.sha256("\0".join(contents).encode()).hexdigest()
    return fit_confidences(bundle, windows, report), cut, digest


def describe(guarantee: Guarantee) -> str:
    """Return a guarantee in one line."""
    return (
        f"ε = {guarantee.epsilon:g}, δ = {guarantee.delta:g}, {guarantee.wire} wire, temperature "
        f"{guarantee.temperature:g}, up to {guarantee.max_tokens} tokens: "
        f"λ = {guarantee.commit_from:g} commits {guarantee.committed_share:.1%} of tokens at risk "
        f"{guarantee.risk:.4f} on {guarantee.sequences} sequences, p = {guarantee.p_value:.3f}"
    )


def _check_target(bundle: Bundle, output: Path | None) -> None:
    """Find out before the long run that its result could not be stored."""
    if output is not None and output.exists():
        raise BundleError(f"{output}: exists already; remove it or choose another --output")
    if output is None and not os.access(bundle.folder, os.W_OK):
        raise BundleError(f"{bundle.folder}: cannot be written; give --output FOLDER for a copy")


def _copy(bundle: Bundle, output: Path) -> Bundle:
    half = output.with_name(output.name + ".tmp")
    shutil.rmtree(half, ignore_errors=True)
    try:
        shutil.copytree(bundle.folder, half)
        half.replace(output)
    except OSError as error:
        raise BundleError(f"{output}: cannot be written: {error}") from error
    finally:
        shutil.rmtree(half, ignore_errors=True)
    return Bundle(output, bundle.manifest)


def _show(guarantee: Guarantee, trials: Sequence[Trial]) -> None:
    table = Table("λ", "risk", "p-value", title=f"ε = {guarantee.epsilon:g}", title_justify="left")
    for trial in trials:
        style = "bold" if trial.threshold == guarantee.commit_from else None
        shown = (f"{trial.threshold:g}", f"{trial.risk:.4f}", f"{trial.p_value:.4f}")
        table.add_row(*shown, style=style)
    console = Console(highlight=False)
    console.print(table)
    console.print(describe(guarantee), soft_wrap=True)


def _to_json(bundle: Bundle, found: Sequence[tuple[Guarantee, list[Trial]]]) -> dict[str, object]:
    return {
        "bundle": str(bundle.folder),
        "fingerprint": bundle.fingerprint,
        "guarantees": [
            guarantee.model_dump(mode="json") | {"trials": [trial._asdict() for trial in trials]}
            for guarantee, trials in found
        ],
    }
