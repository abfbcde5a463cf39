"""The `code` recipe: a small decoder of Python source, trained on the standard library."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from updraft.models.build import BundlePlan, add_channel_scales, add_files, write_bundle
from updraft.models.bundle import Bundle, open_bundle
from updraft.models.card import render_card
from updraft.models.evaluate import Report, calibrate_exits, compare_bundles, evaluate_bundle
from updraft.models.graphs import Weights
from updraft.models.guarantee import PROMPTS_FILE, Calibrator, Terms, keep_guarantees
from updraft.models.manifest import Architecture, CodecName, Precision, Quantization
from updraft.models.recipes.corpus import (
    SourceFile,
    part_of,
    read_licence,
    read_standard_library,
)
from updraft.models.recipes.prompts import draw_prompts, tile_prompts, to_jsonl
from updraft.models.recipes.tokenizer import train_tokenizer
from updraft.models.recipes.train import Phase, Progress, Schedule, Tokens, train
from updraft.models.stop_fit import add_stop_rules
from updraft.models.tokenizer import Tokenizer as BundleTokenizer

SHAPE = Architecture(
    vocabulary_size=4096,
    width=256,
    layers=8,
    heads=4,
    kv_heads=2,
    ffn_width=704,
    context_length=512,
)
EXIT_LAYERS = (2, 3, 4, 8)
BUNDLE_EXITS = (2, 3)
# Strong exits make the layers above them idle: the second phase turns their pull on the shared
# layers down, and drops the candidate exit after layer 4 that the bundle does not use.
SCHEDULE = Schedule(
    phases=(
        Phase(tokens=1_600 * 8_192, context=256, batch_tokens=8_192, exit_weights=(0.1, 0.1, 0.1)),
        Phase(
            tokens=600 * 12_288,
            context=512,
            batch_tokens=12_288,
            exit_weights=(0.03, 0.03, 0.0),
            rates=(1.0, 0.70732),
            distil=True,
        ),
        Phase(
            tokens=900 * 12_288,
            context=512,
            batch_tokens=12_288,
            exit_weights=(0.03, 0.03, 0.0),
            rates=(0.70732, 0.0),
            distil=True,
        ),
    )
)
_PROBE_WINDOWS = 40
_BLOCK = 64
_PROMPTS, _CALIBRATION_PROMPTS = 240, 120
_STOP_PROMPTS = 2_000
_BOUNDED_PROMPTS = 1_200
# What mode `bounded` is certified for.
_CERTIFIED_WIRES: tuple[CodecName, ...] = ("fp16", "int8")
_CERTIFIED_TEMPERATURES = (0.0, 0.8)
_EPSILONS, _DELTA = (0.02, 0.05), 0.05
_END_OF_TEXT = 0


def build(
    work: Path,
    output: Path,
    precision: Precision,
    on_step: Callable[[Progress], None],
    report: Report,
) -> Bundle:
    """Train the decoder, write it as a bundle, measure it, and write its card.

    Call it again after an interruption: training goes on where it stopped.

    Args:
        work: folder for the tokenizer, the checkpoint and drafts; made when missing.
        output: folder of the bundle; must not exist.
        on_step: called after each optimizer step.
        report: told how far measuring is.

    Raises:
        BundleError: the output exists.
    """
    work.mkdir(parents=True, exist_ok=True)
    files = read_standard_library()
    seen, calibration, heldout = (
        [file for file in files if part_of(file.path) == part]
        for part in ("train", "calibration", "heldout")
    )
    tokenizer = train_tokenizer((file.text for file in seen), SHAPE.vocabulary_size)
    decoder = train(
        SHAPE,
        EXIT_LAYERS,
        SCHEDULE,
        _documents(tokenizer, seen),
        _probe(tokenizer, calibration),
        work,
        on_step,
    )
    weights: Weights = {name: value.numpy() for name, value in decoder.state_dict().items()}
    exact = _plan(tokenizer, len(seen), Quantization(weights="fp32"))
    plan = exact
    if precision == "int8":
        plan = replace(exact, quantization=Quantization(weights="int8", block=_BLOCK))
    draft = _draft(work, plan, weights)
    agreement = None
    if precision != "fp32":
        agreement = compare_bundles(draft, _draft(work, exact, weights), files, report=report)
    draft = calibrate_exits(draft, files, report=report)
    text = BundleTokenizer(draft)
    examples = draw_prompts(calibration, text, _CALIBRATION_PROMPTS, SCHEDULE.seed)
    draft = add_channel_scales(draft, [e.prompt + e.completion for e in examples])
    stops = draw_prompts(calibration, text, _STOP_PROMPTS, SCHEDULE.seed)
    draft = add_stop_rules(draft, stops, report)
    measured = evaluate_bundle(draft, files, report=report)
    draft = add_files(
        draft,
        {
            "README.md": render_card(draft.manifest, measured, agreement),
            "LICENSE-PSF.txt": read_licence(),
            "prompts.jsonl": to_jsonl(draw_prompts(heldout, text, _PROMPTS, SCHEDULE.seed)),
            "calibration.jsonl": to_jsonl(examples),
            PROMPTS_FILE: to_jsonl(
                tile_prompts(calibration, text, SCHEDULE.seed)[:_BOUNDED_PROMPTS],
                completions=False,
            ),
        },
    )
    draft = _certify(draft, report)
    half = output.with_name(output.name + ".tmp")
    shutil.copytree(draft.folder, half, dirs_exist_ok=True)
    half.replace(output)
    return open_bundle(output)


def _draft(work: Path, plan: BundlePlan, weights: Weights) -> Bundle:
    folder = work / f"draft-{plan.quantization.weights}"
    shutil.rmtree(folder, ignore_errors=True)
    return write_bundle(folder, plan, weights)


def _certify(bundle: Bundle, report: Report) -> Bundle:
    """Calibrate mode `bounded` on the prompts that the bundle carries for it."""
    rows = bundle.path(PROMPTS_FILE).read_text(encoding="utf-8").splitlines()
    prompts = [json.loads(row)["prompt"] for row in rows]
    digest = bundle.manifest.files[PROMPTS_FILE].sha256
    for wire, temperature in product(_CERTIFIED_WIRES, _CERTIFIED_TEMPERATURES):
        terms = Terms(wire, temperature)
        calibrator = Calibrator(bundle, prompts, digest, terms, report)
        found = [calibrator.certify(epsilon, _DELTA)[0] for epsilon in _EPSILONS]
        bundle = keep_guarantees(bundle, found)
    return bundle


def _plan(tokenizer: Tokenizer, files: int, quantization: Quantization) -> BundlePlan:
    trained = sum(phase.steps * phase.batch_tokens for phase in SCHEDULE.phases)
    corpus = f"{platform.python_implementation()} {platform.python_version()} standard library"
    return BundlePlan(
        name="code",
        architecture=SHAPE,
        exits=BUNDLE_EXITS,
        quantization=quantization,
        tokenizer_json=tokenizer.to_str(),
        end_of_text=_END_OF_TEXT,
        provenance={
            "recipe": "code",
            "corpus": f"{corpus}, {files} files",
            "licence": "PSF License Agreement (training data); see NOTICE",
            "seed": SCHEDULE.seed,
            "tokens_trained": trained,
        },
    )


def _documents(tokenizer: Tokenizer, files: list[SourceFile]) -> list[Tokens]:
    return [
        np.array([_END_OF_TEXT, *encoding.ids], dtype=np.uint16)
        for encoding in tokenizer.encode_batch([file.text for file in files])
    ]


def _probe(tokenizer: Tokenizer, files: list[SourceFile]) -> Tokens:
    length = SHAPE.context_length + 1
    stream = np.concatenate(_documents(tokenizer, files))
    windows = stream[: len(stream) // length * length].reshape(-1, length)
    return windows[:: max(1, len(windows) // _PROBE_WINDOWS)][:_PROBE_WINDOWS]
