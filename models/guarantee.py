"""Guarantees of mode `bounded`: calibrate them, keep them in the bundle, look them up."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from updraft.errors import BundleError, RequestError
from updraft.models.bounded import BoundedRule, Outcome, Ways
from updraft.models.bundle import Bundle, open_bundle, write_manifest
from updraft.models.codecs import wire_codec
from updraft.models.manifest import FORMAT_VERSION, CodecName, ExitEntry, Guarantee, Manifest
from updraft.models.risk import GRID, Trial, fixed_sequence, sequences_needed
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer

# Prompts that a bundle may carry to be calibrated on again.
PROMPTS_FILE = "bounded.jsonl"

# Told what is being run, how many prompts of it are done, and how many there are.
Report = Callable[[str, int, int], None]

# A text this long that stands in another was taken from it; a shorter one may stand anywhere.
_EXCERPT_CHARS = 40


@dataclass(frozen=True)
class Terms:
    """What a guarantee holds with, and no other than these."""

    wire: CodecName = "fp16"
    temperature: float = 0.0
    max_tokens: int = 64


class Calibrator:
    """Runs the bounded rule over calibration prompts; each λ once, however often it is tested.

    Sequence number i is sampled with seed i where the temperature is not 0.

    Args:
        prompts: drawn like those that the guarantee is to hold for, none of them twice.
        prompts_sha256: of the file that they came from.

    Raises:
        RequestError: there are none, one does not fit the context, or the bundle lacks the codec.
    """

    def __init__(
        self,
        bundle: Bundle,
        prompts: Sequence[str],
        prompts_sha256: str,
        terms: Terms,
        report: Report,
    ) -> None:
        manifest = bundle.manifest
        if terms.wire not in manifest.codecs:
            raise RequestError(
                f"wire codec {terms.wire!r} is not one of bundle {manifest.name!r}: choose from "
                f"{', '.join(manifest.codecs)}"
            )
        tokens = _tokenize(bundle, prompts, terms.max_tokens)
        model = Model.load(bundle, range(manifest.architecture.layers), RuntimeOptions())
        codec = wire_codec(bundle, terms.wire)
        rule = BoundedRule(model, codec, terms.temperature, terms.max_tokens)
        self._bundle = bundle
        self._sha256 = prompts_sha256
        self._terms = terms
        self._report = report
        self._ways: list[Ways] = [rule.ways(text, seed) for seed, text in enumerate(tokens)]
        self._outcomes: dict[float, list[Outcome]] = {}

    def outcomes(self, commit_from: float) -> list[Outcome]:
        """Run every prompt with λ = `commit_from`."""
        if commit_from not in self._outcomes:
            found = []
            for way in self._ways:
                found.append(way.at(commit_from))
                self._report(f"λ = {commit_from:g}", len(found), len(self._ways))
            self._outcomes[commit_from] = found
        return self._outcomes[commit_from]

    def losses(self, commit_from: float) -> NDArray[np.float64]:
        """Return each sequence's share of wrong tokens among the committed ones."""
        return np.array([outcome.loss for outcome in self.outcomes(commit_from)])

    def certify(self, epsilon: float, delta: float) -> tuple[Guarantee, list[Trial]]:
        """Test λ after λ, strict first; return the laxest that passes, and all that were tested.

        Raises:
            RequestError: not even the strictest passes; says how many sequences that would take.
        """
        trials = fixed_sequence(GRID, self.losses, epsilon, delta)
        passed = [trial for trial in trials if trial.p_value <= delta]
        if not passed:
            raise RequestError(_explain(trials[0], len(self._ways), epsilon, delta))
        best, terms = passed[-1], self._terms
        outcomes = self.outcomes(best.threshold)
        tokens = sum(len(outcome.tokens) for outcome in outcomes)
        committed = sum(len(outcome.wrong) for outcome in outcomes)
        guarantee = Guarantee(
            epsilon=epsilon,
            delta=delta,
            commit_from=best.threshold,
            wire=terms.wire,
            temperature=terms.temperature,
            max_tokens=terms.max_tokens,
            sequences=len(outcomes),
            risk=best.risk,
            p_value=best.p_value,
            committed_share=committed / tokens,
            prompts_sha256=self._sha256,
            fingerprint=self._bundle.fingerprint,
            exit=_split_exit(self._bundle.manifest),
        )
        return guarantee, trials


def keep_guarantees(bundle: Bundle, guarantees: Sequence[Guarantee]) -> Bundle:
    """Store guarantees in the bundle's manifest; the fingerprint stays what it was.

    They take the place of those for the same ε, wire codec and temperature, and of those that
    are void. The manifest is read again before, so that two calibrations do not undo each other.

    Raises:
        BundleError: the bundle is no longer the one that was calibrated.
    """
    current = open_bundle(bundle.folder)
    if any(not holds(guarantee, current) for guarantee in guarantees):
        raise BundleError(
            f"{bundle.folder}: the bundle has changed while it was calibrated; calibrate again"
        )
    new = {_key(guarantee) for guarantee in guarantees}
    kept = [g for g in current.manifest.guarantees if holds(g, current) and _key(g) not in new]
    listed = sorted([*kept, *guarantees], key=_key)
    changes = {"format": FORMAT_VERSION, "guarantees": listed}
    write_manifest(bundle.folder, current.manifest.model_copy(update=changes))
    return open_bundle(bundle.folder)


def guarantee_for(bundle: Bundle, epsilon: float, wire: CodecName, temperature: float) -> Guarantee:
    """Return the guarantee that mode `bounded` runs with.

    One for a smaller ε holds for a larger one too; of several the nearest is taken.

    Raises:
        RequestError: there is none, or none for the model as it is now; names the command that
            makes one.
    """
    fitting = [
        guarantee
        for guarantee in bundle.manifest.guarantees
        if guarantee.epsilon <= epsilon
        and guarantee.wire == wire
        and guarantee.temperature == temperature
    ]
    valid = [guarantee for guarantee in fitting if holds(guarantee, bundle)]
    if valid:
        return max(valid, key=lambda guarantee: guarantee.epsilon)
    reason = (
        "the guarantee for it is void, the model or its exit is another than when it was calibrated"
        if fitting
        else "no guarantee was calibrated for it"
    )
    prompts = bundle.path(PROMPTS_FILE)
    command = [
        *("updraft", "bundle", "calibrate", str(bundle.folder)),
        *("--prompts", str(prompts) if prompts.is_file() else "FILE.jsonl"),
        *("--epsilon", f"{epsilon:g}", "--wire", wire, "--temperature", f"{temperature:g}"),
    ]
    raise RequestError(
        f"mode 'bounded' cannot keep epsilon {epsilon:g} with wire {wire!r} and temperature "
        f"{temperature:g} on bundle {bundle.manifest.name!r}: {reason}; run: {shlex.join(command)}"
    )


def holds(guarantee: Guarantee, bundle: Bundle) -> bool:
    """Whether a guarantee is about this model and this exit as they are now; else it is void."""
    exit_ = _split_exit(bundle.manifest)
    return guarantee.fingerprint == bundle.fingerprint and guarantee.exit == exit_


def refuse_test_prompts(prompts: Sequence[str], tests: Sequence[str]) -> None:
    """Refuse calibration prompts that would be tested on: the test would praise itself.

    Raises:
        RequestError: a prompt is one of the test prompts, or one of the two is part of the other.
    """
    for number, prompt in enumerate(prompts, start=1):
        if any(_overlap(*sorted((prompt, test), key=len)) for test in tests):
            raise RequestError(
                f"calibration prompt {number} is also one of the bundle's test prompts "
                "(prompts.jsonl): calibrate on prompts that nothing is tested on"
            )


def _overlap(shorter: str, longer: str) -> bool:
    return shorter == longer or (len(shorter) >= _EXCERPT_CHARS and shorter in longer)


def _tokenize(bundle: Bundle, prompts: Sequence[str], max_tokens: int) -> list[list[int]]:
    if not prompts:
        raise RequestError("there is no prompt to calibrate on")
    tokenizer, limit = Tokenizer(bundle), bundle.manifest.architecture.context_length
    texts = []
    for number, prompt in enumerate(prompts, start=1):
        texts.append(tokenizer.encode(prompt))
        if len(texts[-1]) + max_tokens > limit:
            raise RequestError(
                f"calibration prompt {number} has {len(texts[-1])} tokens and max_tokens is "
                f"{max_tokens}, together more than the context of {limit}: leave it out or "
                "shorten it"
            )
    return texts


def _split_exit(manifest: Manifest) -> ExitEntry:
    return manifest.edge_exits[-1]


def _key(guarantee: Guarantee) -> tuple[str, float, float]:
    return guarantee.wire, guarantee.temperature, guarantee.epsilon


def _explain(strictest: Trial, count: int, epsilon: float, delta: float) -> str:
    head = (
        f"no λ can be certified for epsilon {epsilon:g} and delta {delta:g} on {count} sequences: "
        f"at the strictest, {strictest.threshold:g}, the risk is {strictest.risk:.4f} and the "
        f"p-value {strictest.p_value:.3f}"
    )
    needed = sequences_needed(strictest.risk, epsilon, delta)
    if needed is None:
        return (
            f"{head}; more prompts will not help, the exit is wrong too often where it is surest: "
            "ask for a larger --epsilon"
        )
    least = sequences_needed(0.0, epsilon, delta)
    return (
        f"{head}; {least} sequences are needed even if no committed token is wrong, about {needed} "
        "at this risk: give more prompts, or a larger --epsilon or --delta"
    )
