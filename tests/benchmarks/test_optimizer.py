"""The optimizer's benchmark: its instances, its verdicts, and a whole run that is tiny."""

import json
import os
import subprocess
import sys
from decimal import Decimal
from math import inf

import numpy as np
import pytest
from typer.testing import CliRunner

from updraft.benchmarks.measures.goals import Goal, goal_table
from updraft.benchmarks.optimizer.contests import Heat, contest_table
from updraft.benchmarks.optimizer.equality import compare, small
from updraft.benchmarks.optimizer.instances import CATEGORIES, instance
from updraft.benchmarks.optimizer.outcome import Outcome, gap, headroom_gap
from updraft.benchmarks.optimizer.plan import (
    BENDERS,
    CBC,
    CP_SAT,
    FLAT,
    HIGHS,
    KINDS,
    OURS,
    TIERS,
    Case,
    Contest,
    Frontiers,
    Growth,
    Large,
    Replanning,
    Rival,
    Tier,
)
from updraft.optimizer.objective import value_of
from updraft.optimizer.program import formulate

TINY = Tier(
    "quick",
    equality=12,
    contests=(
        Contest(
            10,
            40,
            ("structured", "uniform"),
            limit_s=5,
            rivals=(Rival(HIGHS, 1, 5), Rival(BENDERS, 1, 5)),
            shares=(0.25,),
            seeds=2,
        ),
    ),
    large=Large(60, 40, (0.25,), seeds=1),
    growth=Growth((40, 80), 30, seeds=1),
    replanning=Replanning(10, 40, ("uniform",), 0.25, seeds=1, limit_s=5),
    frontiers=Frontiers(8, 30, "structured", (10, 50, 100), limit_s=5),
    gate_seeds=0,
)


def decimals(number):
    return -Decimal(repr(float(number))).as_tuple().exponent


@pytest.mark.parametrize("mode", ["serial", "parallel"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_problem_of_short_decimals(kind, mode):
    one, same, other = (instance(kind, 7, 30, 0.25, seed, mode) for seed in (3, 3, 4))
    assert (one.quality == same.quality).all()
    assert (one.experts, one.prompts, one.budgets) == (same.experts, same.prompts, same.budgets)
    assert (one.quality != other.quality).any()
    assert one.quality.min() >= 0
    assert one.quality.max() <= 1
    assert max(map(decimals, one.quality.flat)) <= 4
    costs = [e.energy_j for e in one.experts] + [
        t for e in one.experts for t in e.latency_ms.values()
    ]
    limits = [one.budgets.energy_j, *one.budgets.latency_ms.values()]
    assert max(map(decimals, costs + limits)) <= 2
    assert all(row.scale <= 100 for row in formulate(one).rows)


def test_budgets_are_shares_of_what_all_experts_take():
    problem = instance("uniform", 9, 100, 0.25, seed=1)
    assert problem.budgets.energy_j == pytest.approx(
        0.25 * sum(e.energy_j for e in problem.experts), abs=0.01
    )
    for category in CATEGORIES:
        together = sum(e.latency_ms[category] for e in problem.experts)
        assert problem.budgets.latency_ms[category] == pytest.approx(0.3 * together, abs=0.01)


def test_sparse_experts_answer_few_prompts():
    assert 0.06 < (instance("sparse", 50, 400, 0.25, seed=1).quality > 0).mean() < 0.10


def test_only_unsaturated_instances_leave_much_to_gain():
    def reached(kind):
        program = formulate(instance(kind, 200, 400, 0.25, seed=1))
        cheap = np.argsort(program.cost.sum(axis=0))[:40]
        return value_of(program, cheap) / value_of(program, range(200))

    shares = {kind: reached(kind) for kind in KINDS}
    assert shares.pop("unsaturated") < 0.6
    assert min(shares.values()) > 0.8


def test_the_full_tiers_measure_what_the_figures_ask_for():
    for name in ("default", "long"):
        tier = TIERS[name]
        assert tier.name == name
        assert tier.equality >= 1000
        sizes = {(c.experts, c.prompts) for c in tier.contests}
        assert sizes >= {(n, 1000) for n in (20, 30, 50, 60, 100)} | {(100, 200)}
        promised = [c for c in tier.contests if c.kinds != (FLAT,)]
        assert all(c.seeds >= 5 and c.shares == (0.1, 0.25, 0.5) for c in promised)
        assert {r.name for c in tier.contests for r in c.rivals} == {HIGHS, BENDERS, CBC, CP_SAT}
        assert (tier.large.experts, tier.large.prompts) == (5000, 2000)
        assert tier.large.seeds >= 5
        assert tier.replanning.experts == 50


def test_small_problems_are_of_every_kind():
    problems = [small(seed) for seed in range(200)]
    assert {p.latency_mode for p in problems} == {"serial", "parallel"}
    assert {p.ineligible for p in problems} == {"lenient", "strict"}
    assert {len(p.rank_weights) for p in problems} == {1, 2, 3}
    assert {len(p.experts) for p in problems} >= {1, 10}
    assert all((p.quality == np.rint(p.quality)).all() for p in problems)


def test_brute_force_and_ours_agree_on_small_problems():
    assert [compare(seed).fault for seed in range(8)] == [""] * 8


@pytest.mark.parametrize(
    ("values", "at_least", "verdict"),
    [
        ([0.5, 1.0], False, "met"),
        ([0.5, 0.9, 1.1], False, "in the median only"),
        ([0.5, 0.9, inf], False, "in the median only"),
        ([1.1, 1.2], False, "missed"),
        ([], False, "not measured"),
        ([1.0, 9.0], True, "met"),
        ([0.9, 1.0, 9.0], True, "in the median only"),
        ([0.1, 0.2, 5.0], True, "missed"),
    ],
)
def test_a_verdict_follows_from_the_worst_run_and_the_median(values, at_least, verdict):
    goal = Goal("it", 1.0, "s", values, at_least)
    assert goal.verdict == goal.as_figures()["verdict"] == verdict
    (row,) = goal_table([goal]).rows
    assert row[-1] == verdict
    assert row[1] == ("≥ 1 s" if at_least else "≤ 1 s")


def test_gaps_are_relative_to_what_was_found_and_to_what_is_left():
    assert gap(90.0, 99.0) == pytest.approx(0.1)
    assert headroom_gap(90.0, 99.0, of_all=110.0) == pytest.approx(0.45)
    assert gap(90.0, 90.0) == headroom_gap(90.0, 90.0, 90.0) == 0.0


def heat(**runs):
    contest = Contest(50, 1000, ("uniform",), 10)
    outcomes = {
        name: Outcome.of(name, seconds, 10.0, bound, 10, 1e-6)
        for name, (seconds, bound) in runs.items()
    }
    return Heat(contest, Case("uniform", 0.25, 0), outcomes, ())


@pytest.mark.parametrize(
    ("plain", "benders", "fastest_s"),
    [((8, 10), (3, 10), 3), ((8, 10), (3, 11), 8), ((8, 11), (9, 11), 8)],
)
def test_the_fastest_rival_is_one_that_proved_its_answer_if_any_did(plain, benders, fastest_s):
    runs = heat(**{OURS: (1, 10), HIGHS: plain, BENDERS: benders})
    assert runs.fastest_s((HIGHS, BENDERS)) == fastest_s
    assert runs.fastest_s((HIGHS,)) == plain[0]
    assert runs.fastest_s((CBC,)) is None


def test_what_was_not_proved_took_for_ever():
    assert heat(**{OURS: (1, 10)}).ours_s == 1
    assert heat(**{OURS: (1, 11)}).ours_s == inf


def test_rivals_out_of_time_are_shown_with_their_gap():
    table = contest_table([heat(**{OURS: (1, 10), HIGHS: (10, 11), CBC: (4, 10)})])
    cells = dict(zip(table.header, table.rows[0], strict=True))
    assert cells[HIGHS] == "> 10, 10.00% (1)"
    assert cells[CBC] == "4.00 (1)"


def test_a_tiny_run_from_the_command_to_the_files(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from updraft.cli.bench import app

    monkeypatch.setitem(TIERS, "quick", TINY)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    command = ["optimizer", "--tier", "quick", "--output", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    assert figures == json.loads((tmp_path / "optimizer.json").read_text())
    assert figures["faults"] == []
    assert figures["equality"] == {"instances": 12, "different": 0}
    assert len(figures["contests"]) == 4
    assert sum(len(each["runs"]) for each in figures["contests"]) == 4 + 2 * 2
    assert figures["left_out"]
    assert figures["setting"]["commit"]
    verdicts = {goal["goal"]: goal["verdict"] for goal in figures["goals"]}
    assert verdicts["different from brute force, of 12 instances"] == "met"
    assert verdicts["20 × 1000 proved and checked"] == "not measured"
    text = (tmp_path / "optimizer.md").read_text()
    assert "Figures to reach" in text
    assert "| CP-SAT" not in text
    plots = {path.name for path in tmp_path.glob("*.png")}
    assert plots == {"optimizer-frontier.png", "optimizer-growth.png"}


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_command_starts_anew_unless_numpy_has_one_thread(threads):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    script = (
        "import sys\n"
        "from updraft.cli.bench import _run_on_one_thread\n"
        "sys.argv = ['updraft', 'bench', 'optimizer', '--help']\n"
        "_run_on_one_thread()\n"
        "print('the same process')"
    )
    environment = os.environ | dict.fromkeys(names, threads)
    command = [sys.executable, "-c", script]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert ("the same process" in output.stdout) == (threads == "1")
    assert ("--cp-sat-python" in output.stdout) == (threads == "2")
