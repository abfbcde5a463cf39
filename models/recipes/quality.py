"""How good each expert of the family is on each domain; needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from updraft.models.bundle import Bundle
from updraft.models.continuation import Continued, continue_prompts
from updraft.models.evaluate import Report, score_files
from updraft.models.experts import DomainPrompt
from updraft.models.recipes.corpus import SourceFile
from updraft.models.recipes.domains import DOMAINS, Domain
from updraft.models.recipes.prompts import Lengths, draw_prompts
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer
from updraft.optimizer.problem import Matrix

LENGTHS = Lengths(shortest=30, longest=100, completion=32)
SCORED_TOKENS = 20_000
_KEPT_REST = 0.25


def draw_domain_prompts(
    files: Mapping[str, Sequence[SourceFile]], tokenizer: Tokenizer, count: int, seed: int
) -> list[DomainPrompt]:
    """Draw short prompts, as many of each domain.

    Args:
        files: by domain, all of one part of the corpus.
    """
    return [
        DomainPrompt(row.prompt, row.completion, name)
        for name, texts in files.items()
        for row in draw_prompts(texts, tokenizer, count, seed, LENGTHS)
    ]


def measure_prompts(
    bundles: Sequence[Bundle], prompts: Sequence[DomainPrompt], report: Report
) -> dict[int, Continued]:
    """Let every expert continue every prompt; returns exit layer → (prompts, experts)."""
    found = []
    for done, bundle in enumerate(bundles):
        report("experts answering", done, len(bundles))
        model = Model.load(bundle, range(bundle.manifest.architecture.layers), RuntimeOptions())
        found.append(continue_prompts(model, Tokenizer(bundle), prompts))
    report("experts answering", len(bundles), len(bundles))
    return {
        layer: Continued(
            np.stack([by_layer[layer].forced for by_layer in found], axis=1),
            np.stack([by_layer[layer].greedy for by_layer in found], axis=1),
        )
        for layer in found[0]
    }


def measure_accuracy(
    bundle: Bundle, domains: Mapping[str, Domain], seed: int, report: Report
) -> dict[str, dict[int, float]]:
    """Return domain → exit layer → share of the tokens of held-out files that are predicted."""
    accuracy = {}
    for name, domain in domains.items():
        stage = f"{bundle.manifest.name} on {name}"
        scored = score_files(bundle, domain.heldout, SCORED_TOKENS, seed, report, stage)
        shares = (scored.predicted == scored.truth).mean(axis=1)
        accuracy[name] = dict(zip(scored.exits, shares.tolist(), strict=True))
    return accuracy


def pool_by_domain(quality: Matrix, domains: Sequence[str]) -> Matrix:
    """Return qualities in which experts differ by little more than they do on the whole domain.

    32 tokens say how hard a prompt is far better than which expert is best on it: two experts are
    often a token apart by chance. A quality is taken as the prompt's mean over experts, plus how
    much better the expert is on the domain, plus the rest; of the rest, a quarter is kept.

    Args:
        quality: (prompts, experts).
        domains: of each prompt.
    """
    of = np.array(domains)
    pooled = np.empty_like(quality)
    for domain in set(domains):
        mine = quality[of == domain]
        expected = mine.mean(axis=1, keepdims=True) + mine.mean(axis=0) - mine.mean()
        pooled[of == domain] = expected + _KEPT_REST * (mine - expected)
    return pooled.clip(0, 1)


def summarise(
    experts: Sequence[str],
    prompts: Sequence[DomainPrompt],
    continued: Mapping[int, Continued],
    accuracy: Mapping[str, Mapping[str, Mapping[int, float]]],
) -> dict[str, Any]:
    """Return what the family's quality file holds: figures by expert, domain and exit."""
    of = np.array([row.domain for row in prompts])

    def figures(expert: str, domain: str, layer: int) -> dict[str, float]:
        column, rows = list(experts).index(expert), of == domain
        shares = {
            "forced": continued[layer].forced[rows, column].mean(),
            "greedy": continued[layer].greedy[rows, column].mean(),
            "accuracy": accuracy[expert][domain][layer],
        }
        return {name: round(float(share), 4) for name, share in shares.items()}

    return {
        "prompts": len(prompts),
        "scored_tokens": SCORED_TOKENS,
        "experts": {
            expert: {
                domain: {str(layer): figures(expert, domain, layer) for layer in continued}
                for domain in DOMAINS
            }
            for expert in experts
        },
    }
