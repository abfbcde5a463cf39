"""Measure the shipped experts and the gate over them; write tables and figures.

python benchmarks/experts.py                    the shipped family, into docs/results
python benchmarks/experts.py --family FOLDER    another one
python benchmarks/experts.py --quick            a quarter of the prompts, no files, printed only
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from updraft.benchmarks.measures.report import ROOT, Section, commit, machine, terminal, write
from updraft.cli.progress import show_stages
from updraft.models.bundle import Bundle, open_bundle
from updraft.models.card import Table, percent
from updraft.models.continuation import GREEDY_TOKENS, Continued
from updraft.models.evaluate import Report
from updraft.models.experts import DomainPrompt, Family
from updraft.models.recipes.domains import DOMAINS, Domain, read_domains
from updraft.models.recipes.mixture import GENERALIST
from updraft.models.recipes.quality import (
    LENGTHS,
    SCORED_TOKENS,
    draw_domain_prompts,
    measure_accuracy,
    measure_prompts,
    pool_by_domain,
)
from updraft.models.shipped import shipped_family
from updraft.models.tokenizer import Tokenizer
from updraft.optimizer.gate.features import TextFeatures
from updraft.optimizer.gate.fit import fit_gate
from updraft.optimizer.gate.gate import Gate

_SEED = 0
# The gate is fitted to so many prompts of each domain, as in the recipe.
_CALIBRATION_PROMPTS = 400
_QUICK_STEP = 4
_TABLE_WIDTH = 150

Choice = NDArray[np.intp]
Values = NDArray[np.float64]


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--family", type=Path, help="folder of the family")
    parser.add_argument("--quick", action="store_true", help="a quarter of the prompts, no files")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument("--output", type=Path, help="folder; docs/results unless --quick")
    arguments = parser.parse_args()
    family = Family(arguments.family) if arguments.family else shipped_family()
    console = Console(stderr=arguments.json, width=_TABLE_WIDTH)
    started = perf_counter()
    with Progress(console=console, transient=True) as progress:
        sections = measure(family, quick=arguments.quick, report=show_stages(progress))
    found = {
        "commit": commit(),
        "machine": machine(),
        "seconds": round(perf_counter() - started),
        **{section.key: section.figures for section in sections},
    }
    text = json.dumps(found, ensure_ascii=False, indent=1)
    tables = [table for section in sections for table in section.tables]
    if arguments.json:
        print(text)
    else:
        for table in tables:
            console.print(terminal(table))
    folder = arguments.output or (None if arguments.quick else ROOT / "docs" / "results")
    if folder is not None:
        about = (
            f"Written by `python benchmarks/experts.py` in {found['seconds']} s; commit "
            f"{commit()[:12]}, {machine()}. `docs/experts.md` says what the experts are."
        )
        pages = ["# The experts, measured", "", about, "", *(t.markdown() for t in tables)]
        write(folder / "experts.md", "\n".join(pages))
        write(folder / "experts.json", text + "\n")
        console.print(f"wrote experts.md and experts.json into {folder}")


def measure(family: Family, *, quick: bool, report: Report) -> list[Section]:
    """Measure a family: routing on its held-out prompts, then every expert on whole files."""
    bundles = [open_bundle(folder) for folder in family.bundles().values()]
    prompts, gate = family.prompts()[:: _QUICK_STEP if quick else 1], family.gate()
    continued = measure_prompts(bundles, prompts, report)
    full = bundles[0].manifest.architecture.layers
    sections = [
        _prompt_section(gate.experts, prompts, continued),
        _routing_section(gate, prompts, continued[full]),
        _time_section(gate, prompts),
    ]
    if not quick:
        domains = read_domains(_SEED)
        sections.insert(0, _accuracy_section(bundles, domains, report))
        sections.append(_target_section(bundles, domains, prompts, continued[full], report))
    return sections


def _accuracy_section(
    bundles: Sequence[Bundle], domains: Mapping[str, Domain], report: Report
) -> Section:
    found = {b.manifest.name: measure_accuracy(b, domains, _SEED, report) for b in bundles}
    layers = [entry.layer for entry in bundles[0].manifest.exits]
    tables = [
        Table(
            f"Held-out top-1 next-token accuracy after layer {layer}",
            ["expert", *DOMAINS],
            [
                [name, *(percent(by_domain[domain][layer]) for domain in DOMAINS)]
                for name, by_domain in found.items()
            ],
            f"Whole held-out files, up to {SCORED_TOKENS:,} tokens of each domain.",
        )
        for layer in reversed(layers)
    ]
    return Section("accuracy", tables, found)


def _prompt_section(
    experts: Sequence[str], prompts: Sequence[DomainPrompt], continued: Mapping[int, Continued]
) -> Section:
    of = np.array([row.domain for row in prompts])
    full = max(continued)
    figures = {
        expert: {
            domain: {
                str(layer): {
                    name: float(getattr(found, name)[of == domain, column].mean())
                    for name in Continued._fields
                }
                for layer, found in continued.items()
            }
            for domain in DOMAINS
        }
        for column, expert in enumerate(experts)
    }
    rows = [
        [
            expert,
            *(
                " / ".join(percent(cell[str(full)][name]) for name in Continued._fields)
                for cell in by_domain.values()
            ),
        ]
        for expert, by_domain in figures.items()
    ]
    table = Table(
        f"Held-out prompts at full depth: forced / greedy ({len(prompts)} prompts)",
        ["expert", *DOMAINS],
        rows,
        f"Prompts of {LENGTHS.shortest} to {LENGTHS.longest} tokens. Forced: share of the next "
        f"{LENGTHS.completion} tokens that are predicted when all before are true. Greedy: share "
        f"of the next {GREEDY_TOKENS} that are written before the first untrue one.",
    )
    return Section("prompts", [table], figures)


def _routing_section(gate: Gate, prompts: Sequence[DomainPrompt], found: Continued) -> Section:
    routes = _routes(gate, prompts, found)
    rows = np.arange(len(prompts))
    experts = np.array(gate.experts)
    domains = np.array([row.domain for row in prompts])
    figures: dict[str, Any] = {}
    cells = []
    for name, chosen in routes.items():
        earned = {
            measure: getattr(found, measure)[rows, chosen]
            if chosen is not None
            else getattr(found, measure).mean(axis=1)
            for measure in Continued._fields
        }
        figures[name] = {measure: float(values.mean()) for measure, values in earned.items()}
        own = best = None
        if chosen is not None:
            own = float((experts[chosen] == domains).mean())
            best = float((earned["forced"] == found.forced.max(axis=1)).mean())
            figures[name] |= {"own_domain": own, "best_expert": best}
        cells.append(
            [
                name,
                *(_with_error(values) for values in earned.values()),
                "-" if own is None else percent(own),
                "-" if best is None else percent(best),
            ]
        )
    ours = found.forced[rows, routes["our gate"]]
    for rival in ("generalist", "best single expert", "oracle of domains"):
        gain = ours - found.forced[rows, routes[rival]]
        figures["our gate"][f"forced_over_{rival.replace(' ', '_')}"] = {
            "mean": float(gain.mean()),
            "standard_error": _error(gain),
        }
    table = Table(
        "Who answers: quality on held-out prompts, ± standard error",
        ["route", "forced", "greedy", "to its domain's expert", "to a best expert"],
        cells,
        "The oracle of domains knows where a prompt comes from; the oracle of answers has seen "
        "every expert's answer. A best expert is one that no other beats on that prompt (forced).",
    )
    return Section("routing", [table], figures)


def _routes(
    gate: Gate, prompts: Sequence[DomainPrompt], found: Continued
) -> dict[str, Choice | None]:
    """Return who answers each prompt by each policy; None stands for anyone, at random."""
    text = gate.text
    if text is None:
        raise ValueError("the family's gate does not read text")
    names = list(gate.experts)
    count = len(prompts)
    rows = text.encode([row.prompt for row in prompts])
    single = int(found.forced.mean(axis=0).argmax())
    return {
        "oracle of answers": found.forced.argmax(axis=1),
        "oracle of domains": np.array([names.index(row.domain) for row in prompts], np.intp),
        "our gate": gate.route(rows, gate.mask(names)),
        "best single expert": np.full(count, single, np.intp),
        "generalist": np.full(count, names.index(GENERALIST), np.intp),
        "random": None,
    }


def _time_section(gate: Gate, prompts: Sequence[DomainPrompt]) -> Section:
    text, everyone = gate.text, gate.mask(gate.experts)
    if text is None:
        raise ValueError("the family's gate does not read text")
    times = []
    for row in prompts:
        started = perf_counter()
        gate.route(text.encode([row.prompt]), everyone)
        times.append(perf_counter() - started)
    low, middle, high = (1e3 * float(q) for q in np.percentile(times, (5, 50, 95)))
    table = Table(
        "Time of the gate per prompt",
        ["", "ms"],
        [["median", f"{middle:.2f}"], ["5% to 95%", f"{low:.2f} to {high:.2f}"]],
        "From text to the choice of an expert, one prompt at a time, one thread.",
    )
    return Section("gate_ms", [table], {"median": middle, "p5": low, "p95": high})


def _target_section(
    bundles: Sequence[Bundle],
    domains: Mapping[str, Domain],
    prompts: Sequence[DomainPrompt],
    found: Continued,
    report: Report,
) -> Section:
    """Fit a gate to each kind of quality and say what routing by it earns."""
    files = {name: domain.calibration for name, domain in domains.items()}
    drawn = draw_domain_prompts(files, Tokenizer(bundles[0]), _CALIBRATION_PROMPTS, _SEED)
    seen = measure_prompts(bundles, drawn, report)[bundles[0].manifest.architecture.layers]
    names = [bundle.manifest.name for bundle in bundles]
    text = TextFeatures()
    rows = np.arange(len(prompts))
    features = text.encode([row.prompt for row in prompts])
    figures, cells = {}, []
    pooled = pool_by_domain(seen.forced, [row.domain for row in drawn])
    targets = {**seen._asdict(), "forced, pooled by domain": pooled}
    fitted = text.encode([row.prompt for row in drawn])
    for target, quality in targets.items():
        gate = fit_gate(fitted, quality, names, text=text, seed=_SEED).gate
        chosen = gate.route(features, gate.mask(names))
        earned = {name: getattr(found, name)[rows, chosen] for name in Continued._fields}
        figures[target] = {name: float(values.mean()) for name, values in earned.items()}
        cells.append([target, *(_with_error(values) for values in earned.values())])
    table = Table(
        "What the gate is fitted to",
        ["target", "forced", "greedy"],
        cells,
        f"Fitted to {len(drawn)} prompts of calibration files; quality on held-out prompts.",
    )
    return Section("gate_target", [table], figures)


def _error(values: Values) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def _with_error(values: Values) -> str:
    return f"{percent(float(values.mean()))} ± {100 * _error(values):.1f}"


if __name__ == "__main__":
    main()
