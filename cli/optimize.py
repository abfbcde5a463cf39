"""`updraft optimize`: which experts to keep on, with proof."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import asdict
from enum import Enum
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from updraft.cli.options import AsJson
from updraft.cli.output_file import check_folder_of, write_whole
from updraft.cli.problem_file import Source, read_json, read_problem
from updraft.errors import ProblemError, RequestError, RuntimeMissing

if TYPE_CHECKING:
    from updraft.optimizer.frontier import FrontierPoint
    from updraft.optimizer.problem import Problem
    from updraft.optimizer.select import Selection

app = typer.Typer(help="Choose which experts to keep on, with proof.", no_args_is_help=True)

_INFEASIBLE = 3
_MAKE_IT_SMALLER = "`select --solver greedy` writes a short one"
_FOUND = ("method", "quality", "upper_bound", "selected")
_MOST_POINTS = 1000


class SolverName(str, Enum):
    """Ways to select."""

    exact = "exact"
    greedy = "greedy"
    pulp_cbc = "pulp-cbc"
    pulp_highs = "pulp-highs"
    brute = "brute"


class CostAs(str, Enum):
    """What a table's costs may be taken for."""

    energy_j = "energy_j"


ProblemPath = Annotated[
    Path, typer.Argument(metavar="PROBLEM", help="Problem as .json or .toml, or a table as .csv.")
]
Quality = Annotated[
    Path | None, typer.Option(help="Table of qualities in CSV, in place of the problem's.")
]
EnergyJ = Annotated[
    float | None, typer.Option(help="Budget of energy in joules, in place of the problem's.")
]
AnswerCostAs = Annotated[
    CostAs | None, typer.Option(help="Take what answers cost in the table for joules.")
]
TimeLimit = Annotated[float | None, typer.Option(help="Seconds; then the best found, its gap.")]


@app.command()
def select(
    problem: ProblemPath,
    quality: Quality = None,
    solver: Annotated[SolverName, typer.Option(help="How to select.")] = SolverName.exact,
    time_limit_s: TimeLimit = None,
    certificate: Annotated[
        Path | None, typer.Option(help="Write a proof that `check` can verify.")
    ] = None,
    energy_j: EnergyJ = None,
    answer_cost_as: AnswerCostAs = None,
    as_json: AsJson = False,
) -> None:
    """Select the experts that are worth most within the budgets.

    The exit code is 2 when the problem makes no sense, and 3 when no selection keeps the budgets.
    """
    _check_time_limit(time_limit_s)
    if certificate is not None:
        check_folder_of(certificate)
    source = Source(problem, quality, energy_j, answer_cost_as is not None)
    _, read = read_problem(source)
    from updraft.optimizer.select import select as select_experts

    selection = select_experts(read, solver=solver.value, time_limit_s=time_limit_s)
    written = None
    if certificate is not None and selection.certificate is not None:
        text = json.dumps(selection.certificate)
        write_whole(certificate, lambda path: path.write_text(text, encoding="utf-8"))
        written = str(certificate)
    if as_json:
        print(json.dumps(_finite(selection.as_document(written)), indent=2))
    else:
        _print_selection(selection, read, written)
    if certificate is not None and written is None:
        said = f"no certificate was written: {solver.value} gives none here"
        Console(stderr=True).print(said, style="yellow", markup=False)
    if selection.status == "infeasible":
        raise typer.Exit(_INFEASIBLE)


@app.command()
def check(
    problem: ProblemPath,
    certificate: Annotated[
        Path, typer.Argument(metavar="CERTIFICATE", help="What `select --certificate` wrote.")
    ],
    quality: Quality = None,
    energy_j: EnergyJ = None,
    answer_cost_as: AnswerCostAs = None,
    as_json: AsJson = False,
) -> None:
    """Check a certificate in exact arithmetic, with nothing of what made it.

    Give the options that the selection was made with. The exit code is 1 when it does not hold.
    """
    from updraft.optimizer.certificates.check import check as check_certificate

    source = Source(problem, quality, energy_j, answer_cost_as is not None)
    document, _ = read_problem(source)
    verdict = check_certificate(_without_arrays(document), read_json(certificate, _MAKE_IT_SMALLER))
    if as_json:
        print(json.dumps(asdict(verdict), indent=2))
    elif verdict.holds:
        print(f"{certificate}: holds")
        print(f"  the selection keeps the budgets and is worth {_decimal(verdict.objective)}")
        print(f"  none that keeps them is worth more than {_decimal(verdict.upper_bound)}")
        if verdict.exact:
            print("  it is the best: no worth lies above its own and up to that bound")
    else:
        print(f"{certificate}: does not hold: {verdict.reason}")
        if verdict.path:
            print(f"  at {verdict.path}")
    raise typer.Exit(0 if verdict.holds else 1)


@app.command()
def frontier(
    problem: ProblemPath,
    output: Annotated[Path, typer.Option(help="Folder for frontier.csv and frontier.png.")],
    points: Annotated[
        int, typer.Option(min=1, max=_MOST_POINTS, help="Budgets tried on each axis.")
    ] = 10,
    quality: Quality = None,
    time_limit_s: TimeLimit = 10.0,
    energy_j: EnergyJ = None,
    answer_cost_as: AnswerCostAs = None,
    as_json: AsJson = False,
) -> None:
    """Draw how much quality each budget of energy and of delay buys.

    Ours beside greedy, random, the best single expert and the best k by quality. The time limit
    is that of one selection.
    """
    _check_time_limit(time_limit_s)
    if output.exists() and not output.is_dir():
        raise RequestError(f"{output}: is no folder")
    if find_spec("matplotlib") is None:
        raise RuntimeMissing("matplotlib is not installed: pip install 'updraft[bench]'")
    _, read = read_problem(Source(problem, quality, energy_j, answer_cost_as is not None))
    from updraft.cli.frontier_plot import draw
    from updraft.optimizer.frontier import Axis, frontier
    from updraft.optimizer.solvers import exact, greedy

    solvers = {"ours": exact.solve, "greedy": greedy.solve}
    shares = [number / points for number in range(1, points + 1)]
    axes: list[Axis] = ["energy"]
    if any(expert.latency_ms for expert in read.experts):
        axes.append("delay")
    found = [
        point
        for axis in axes
        for point in frontier(read, axis, shares, solvers, time_limit_s=time_limit_s)
    ]
    rows = [_row(point) for point in found]
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"{output}: cannot be made: {error.strerror}") from error
    write_whole(output / "frontier.csv", lambda path: _write_csv(path, rows))
    write_whole(output / "frontier.png", lambda path: draw(path, found))
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        _print_frontier(found)
        print(f"wrote frontier.csv, frontier.png into {output}")


def _check_time_limit(time_limit_s: float | None) -> None:
    if time_limit_s is not None and not 0 < time_limit_s < math.inf:
        raise ProblemError([f"--time-limit-s {time_limit_s:g}: a number of seconds > 0 is needed"])


def _without_arrays(document: dict[str, Any]) -> dict[str, Any]:
    """The checker reads what JSON could hold."""
    return {k: v.tolist() if hasattr(v, "tolist") else v for k, v in document.items()}


def _finite(document: dict[str, Any]) -> dict[str, Any]:
    """JSON has no infinity, which is the gap where nothing of worth was found."""
    return {key: None if value == math.inf else value for key, value in document.items()}


def _decimal(rational: str) -> str:
    """Show an exact fraction, and the decimal that it is about or exactly."""
    return f"{float(Fraction(rational)):.10g} ({rational})"


def _print_selection(selection: Selection, problem: Problem, written: str | None) -> None:
    console = Console(highlight=False)
    if selection.status == "infeasible":
        said = f"infeasible: {selection.reason}"
        console.print(said, style="red", markup=False, soft_wrap=True)
        return
    served: dict[str, float] = dict.fromkeys(selection.selected, 0.0)
    for shares in selection.assignment.values():
        for share in shares:
            served[share.expert] += share.share
    table = Table("expert", "energy J", "prompts served")
    experts = {expert.id: expert for expert in problem.experts}
    for name in selection.selected:
        table.add_row(escape(name), f"{experts[name].energy_j:g}", f"{served[name]:g}")
    console.print(table)
    worth = f"{selection.status}: worth {selection.objective:.6g}"
    if selection.status == "optimal":
        print(f"{worth}, and nothing is worth more")
    else:
        gaps = f"gap {selection.gap:.3%}, of the headroom {selection.headroom_gap:.3%}"
        print(f"{worth}, and nothing is worth more than {selection.upper_bound:.6g} ({gaps})")
    print(f"spent: {_spent(selection.spent)}")
    if selection.reason:
        print(selection.reason)
    print(f"{selection.seconds:.3f} s" + (f", certificate in {written}" if written else ""))


def _spent(spent: dict[str, Any]) -> str:
    """Write what is spent in one line, by the names of the budgets."""
    flat = {"energy_j": spent["energy_j"]}
    for group in ("latency_ms", "resources"):
        flat |= {f"{group}.{name}": amount for name, amount in spent[group].items()}
    return ", ".join(f"{name} {amount:g}" for name, amount in flat.items())


def _row(point: FrontierPoint) -> dict[str, Any]:
    budgets = point.budgets
    return {
        "axis": point.axis,
        "share": point.share,
        "energy_j": budgets.energy_j,
        **{f"latency_ms.{name}": limit for name, limit in budgets.latency_ms.items()},
        **{name: getattr(point, name) for name in _FOUND},
    }


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one line per point; ids of experts are separated by semicolons."""
    # Not every row limits every category.
    delays = dict.fromkeys(name for row in rows for name in row if name.startswith("latency_ms."))
    columns = ["axis", "share", "energy_j", *delays, *_FOUND]
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, columns, lineterminator="\n")
        table.writeheader()
        for row in rows:
            table.writerow(row | {"selected": ";".join(row["selected"])})


def _print_frontier(points: list[FrontierPoint]) -> None:
    console = Console()
    methods = list(dict.fromkeys(point.method for point in points))
    for axis in dict.fromkeys(point.axis for point in points):
        table = Table(f"{axis} budget", *methods)
        for share in dict.fromkeys(point.share for point in points):
            at = {p.method: p.quality for p in points if (p.axis, p.share) == (axis, share)}
            cells = (f"{at[method]:.4g}" if method in at else "" for method in methods)
            table.add_row(f"{share:.0%}", *cells)
        console.print(table)
