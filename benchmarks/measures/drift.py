"""What the correction of λ by its labels is worth when texts are not as those that calibrated."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from updraft.benchmarks.measures.bench import bundle_prompts
from updraft.benchmarks.measures.report import Section
from updraft.edge.online import OnlineLambda
from updraft.models.bounded import BoundedRule, Ways
from updraft.models.bundle import Bundle
from updraft.models.card import Table
from updraft.models.codecs import wire_codec
from updraft.models.guarantee import Report, guarantee_for
from updraft.models.manifest import CodecName, Guarantee
from updraft.models.runtime import RuntimeOptions
from updraft.models.sequence import Model
from updraft.models.tokenizer import Tokenizer


@dataclass(frozen=True)
class DriftPlan:
    """How much is measured.

    Attributes:
        drifted_temperature: sampled texts under a λ that was certified for greedy ones.
    """

    prompts: int = 240
    epsilons: tuple[float, ...] = (0.02, 0.05)
    wire: CodecName = "fp16"
    drifted_temperature: float = 0.8


QUICK = DriftPlan(prompts=40)


@dataclass(frozen=True)
class Run:
    """All prompts one after the other under one guarantee for temperature 0.

    Attributes:
        corrected: by the labels of the sequences before; else the certified λ throughout.
        risk: mean over the sequences of the share of committed tokens that were wrong.
        pooled_risk: share of all committed tokens that were wrong.
        last: λ at the end; infinite where nothing is committed any more.
    """

    epsilon: float
    temperature: float
    corrected: bool
    risk: float
    pooled_risk: float
    committed_share: float
    last: float

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table."""
        return (
            f"{self.epsilon:g}, temperature {self.temperature:g}",
            "corrected" if self.corrected else "certified",
            f"{self.risk:.4f}",
            f"{self.pooled_risk:.4f}",
            f"{self.committed_share:.1%}",
            f"{self.last:.4f}",
        )


def measure_drift(bundle: Bundle, plan: DriftPlan, report: Report) -> Section:
    """Run the bundle's test prompts under its guarantees, at their temperature and at another.

    Raises:
        RequestError: the bundle lacks a guarantee.
    """
    guarantees = [guarantee_for(bundle, epsilon, plan.wire, 0.0) for epsilon in plan.epsilons]
    source, prompts = bundle_prompts(bundle)
    tokenizer = Tokenizer(bundle)
    texts = [tokenizer.encode(prompt) for prompt in prompts[: plan.prompts]]
    model = Model.load(bundle, range(bundle.manifest.architecture.layers), RuntimeOptions())
    codec = wire_codec(bundle, plan.wire)
    runs = []
    for temperature in (0.0, plan.drifted_temperature):
        rule = BoundedRule(model, codec, temperature, guarantees[0].max_tokens)
        ways = [rule.ways(text, seed) for seed, text in enumerate(texts)]
        for guarantee in guarantees:
            for corrected in (False, True):
                runs.append(_run(ways, guarantee, temperature, corrected))
                report("drift", len(runs), 4 * len(guarantees))
    table = Table(
        "Certified λ on held-out prompts, as calibrated and drifted",
        ("ε, text", "λ", "risk", "of all committed", "committed", "λ at the end"),
        [run.row() for run in runs],
        f"{len(texts)} prompts ({source}), the shipped guarantees for temperature 0, "
        f"{plan.wire} wire. A guarantee is refused for another temperature than its own: sampling "
        "stands here for any drift. The correction bounds, in the long run, the share of all "
        "committed tokens that are wrong.",
    )
    return Section("drift", [table], {"runs": [asdict(run) for run in runs]})


def _run(ways: list[Ways], guarantee: Guarantee, temperature: float, corrected: bool) -> Run:
    online = OnlineLambda(guarantee)
    outcomes = []
    for way in ways:
        # Labels of a sequence come when it is over: later than they would in service.
        outcome = way.at(online.commit_from if corrected else guarantee.commit_from)
        outcomes.append(outcome)
        for label in outcome.wrong:
            online.learn(1.0, committed=True, wrong=label)
    committed = sum(len(outcome.wrong) for outcome in outcomes)
    wrong = sum(sum(outcome.wrong) for outcome in outcomes)
    return Run(
        guarantee.epsilon,
        temperature,
        corrected,
        math.fsum(outcome.loss for outcome in outcomes) / len(outcomes),
        wrong / max(1, committed),
        committed / sum(len(outcome.tokens) for outcome in outcomes),
        online.commit_from if corrected else guarantee.commit_from,
    )
