"""The `family` recipe: a generalist, four experts, and a gate that says who answers a prompt."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from updraft.models.build import BundlePlan, add_channel_scales, add_files, write_bundle
from updraft.models.bundle import Bundle, open_bundle
from updraft.models.evaluate import Report, calibrate_exits_on
from updraft.models.experts import GATE, PROMPTS, QUALITY, DomainPrompt, write_prompts
from updraft.models.graphs import Weights
from updraft.models.manifest import Precision, Quantization
from updraft.models.recipes.branches import (
    BUNDLE_EXITS,
    DECAY,
    END_OF_TEXT,
    SEED,
    SHAPE,
    TRUNK,
    blend,
    encode,
    fit_tokenizer,
    probe_windows,
    train_branch,
    train_trunk,
)
from updraft.models.recipes.corpus import read_licence
from updraft.models.recipes.domains import Domain, read_domains
from updraft.models.recipes.family_card import render_expert_card
from updraft.models.recipes.mixture import EXPERTS, GENERALIST, shares_of
from updraft.models.recipes.quality import (
    SCORED_TOKENS,
    draw_domain_prompts,
    measure_accuracy,
    measure_prompts,
    pool_by_domain,
    summarise,
)
from updraft.models.recipes.train import Progress
from updraft.models.tokenizer import Tokenizer as BundleTokenizer
from updraft.optimizer.gate.features import TextFeatures
from updraft.optimizer.gate.fit import fit_gate
from updraft.optimizer.gate.gate import Gate
from updraft.optimizer.problem import Matrix

# Of each domain.
_PROMPTS, _CALIBRATION_PROMPTS = 100, 400
_BLOCK = 32
_SCALE_PROMPTS = 60


def build(
    work: Path,
    output: Path,
    precision: Precision,
    on_step: Callable[[Progress], None],
    report: Report,
) -> list[Bundle]:
    """Train the family, write its bundles, and fit its gate on prompts that none was trained on.

    Call it again after an interruption: training goes on where it stopped.

    Args:
        work: folder for checkpoints and drafts; made when missing.
        output: folder of the family; must not exist.
        on_step: called after each optimizer step.
        report: told how far measuring is.

    Raises:
        BundleError: a draft cannot be opened.
    """
    draft = work / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    domains = read_domains(SEED)
    tokenizer = fit_tokenizer(domains)
    bundles = []
    for name, weights in _train(domains, tokenizer, work, on_step).items():
        plan = _plan(name, tokenizer, domains, precision)
        bundle = write_bundle(draft / name, plan, weights)
        own = [domains[name]] if name in domains else list(domains.values())
        files = [file for domain in own for file in domain.calibration]
        bundles.append(calibrate_exits_on(bundle, files, report=report))
    text = BundleTokenizer(bundles[0])
    calibration = draw_domain_prompts(
        {name: domain.calibration for name, domain in domains.items()},
        text,
        _CALIBRATION_PROMPTS,
        SEED,
    )
    heldout = draw_domain_prompts(
        {name: domain.heldout for name, domain in domains.items()}, text, _PROMPTS, SEED
    )
    bundles = [_with_scales(bundle, calibration) for bundle in bundles]
    accuracy = {
        bundle.manifest.name: measure_accuracy(bundle, domains, SEED, report) for bundle in bundles
    }
    bundles = [_with_texts(bundle, accuracy[bundle.manifest.name]) for bundle in bundles]
    answered = measure_prompts(bundles, calibration, report)[SHAPE.layers]
    (draft / GATE).write_bytes(fit_family_gate(calibration, answered.forced).to_bytes())
    (draft / PROMPTS).write_text(write_prompts(heldout), encoding="utf-8")
    found = summarise(EXPERTS, heldout, measure_prompts(bundles, heldout, report), accuracy)
    (draft / QUALITY).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    half = output.with_name(output.name + ".tmp")
    shutil.copytree(draft, half, dirs_exist_ok=True)
    half.replace(output)
    return [open_bundle(output / name) for name in EXPERTS]


def fit_family_gate(prompts: Sequence[DomainPrompt], quality: Matrix) -> Gate:
    """Train the gate on how well every expert continued prompts of the calibration files.

    Args:
        quality: (prompts, experts), shares of right tokens.
    """
    text = TextFeatures()
    rows = text.encode([row.prompt for row in prompts])
    target = pool_by_domain(quality, [row.domain for row in prompts])
    return fit_gate(rows, target, EXPERTS, text=text, seed=SEED).gate


def _train(
    domains: Mapping[str, Domain],
    tokenizer: Tokenizer,
    work: Path,
    on_step: Callable[[Progress], None],
) -> dict[str, Weights]:
    documents = {name: encode(tokenizer, domain.train) for name, domain in domains.items()}
    probes = {
        name: probe_windows(encode(tokenizer, domain.calibration))
        for name, domain in domains.items()
    }
    probes[GENERALIST] = np.concatenate([probes[name] for name in domains])
    trunk = work / "trunk"
    train_trunk(documents, probes[GENERALIST], trunk, on_step)
    documents = {
        name: documents[name] + encode(tokenizer, domain.fresh) for name, domain in domains.items()
    }
    weights: dict[str, Weights] = {}
    for name in EXPERTS:
        decoder = train_branch(name, documents, probes[name], trunk, work / name, on_step)
        own = {key: value.numpy() for key, value in decoder.state_dict().items()}
        weights[name] = own if name == GENERALIST else blend(weights[GENERALIST], own)
    return weights


def _plan(
    name: str, tokenizer: Tokenizer, domains: Mapping[str, Domain], precision: Precision
) -> BundlePlan:
    read = ", ".join(f"{share:.0%} {domain}" for domain, share in shares_of(name).items())
    files = sum(len(domain.train) + len(domain.fresh) for domain in domains.values())
    return BundlePlan(
        name=name,
        architecture=SHAPE,
        exits=BUNDLE_EXITS,
        quantization=Quantization(weights=precision, block=_BLOCK if precision == "int8" else None),
        tokenizer_json=tokenizer.to_str(),
        end_of_text=END_OF_TEXT,
        provenance={
            "recipe": "family",
            "corpus": f"{files} files of {', '.join(domains)}",
            "trunk_tokens": TRUNK.steps * TRUNK.batch_tokens,
            "branch_tokens": DECAY.steps * DECAY.batch_tokens,
            "branch_reads": read,
            "licence": "PSF License Version 2 and BSD 3-clause (training data); see NOTICE",
            "seed": SEED,
        },
    )


def _with_scales(bundle: Bundle, prompts: Sequence[DomainPrompt]) -> Bundle:
    step = max(1, len(prompts) // _SCALE_PROMPTS)
    return add_channel_scales(bundle, [row.prompt + row.completion for row in prompts[::step]])


def _with_texts(bundle: Bundle, accuracy: Mapping[str, Mapping[int, float]]) -> Bundle:
    return add_files(
        bundle,
        {
            "README.md": render_expert_card(bundle.manifest, accuracy, SCORED_TOKENS),
            "LICENSE-PSF.txt": read_licence(),
            "LICENSE-numpy.txt": _numpy_licence(),
        },
    )


def _numpy_licence() -> str:
    """Return numpy's own licence; what its wheel bundles besides follows a line of dashes."""
    for file in distribution("numpy").files or []:
        if file.name == "LICENSE.txt":
            return file.read_text().partition("\n----")[0].rstrip() + "\n"
    return "BSD 3-clause: https://numpy.org/doc/stable/license.html\n"
