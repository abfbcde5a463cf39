"""Other ways to choose who is on, and the best there is for few nodes, by HiGHS."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import highspy
import numpy as np

from updraft.optimizer.placement.demand import Demand, Indices
from updraft.optimizer.problem import Budgets, Expert, Problem, Prompt
from updraft.optimizer.select import SolverName, select

THRIFT = 0.001


class Best(NamedTuple):
    """What HiGHS found: `worth` per second, and what it proved that nothing exceeds."""

    worth: float
    upper_bound: float
    nodes: list[int]


def greedy(demand: Demand, rng: np.random.Generator) -> Indices:
    """Add who raises the best quality on offer most per watt of standby, within the power."""
    chosen: list[int] = []
    offered = np.zeros(len(demand.rate))
    power = demand.power
    while True:
        gain = np.maximum(demand.quality - offered, 0) @ demand.rate / demand.standby
        gain[demand.standby > power] = 0
        best = int(gain.argmax())
        if gain[best] <= 0:
            return np.sort(np.array(chosen, dtype=np.intp))
        chosen.append(best)
        power -= demand.standby[best]
        offered = np.maximum(offered, demand.quality[best])


def top_k(demand: Demand, rng: np.random.Generator) -> Indices:
    """Take the nodes with the best mean quality as long as their standby fits."""
    return _as_fits(demand, np.argsort(-(demand.quality @ demand.rate), kind="stable"))


def random(demand: Demand, rng: np.random.Generator) -> Indices:
    """Take nodes in a random order as long as their standby fits."""
    return _as_fits(demand, rng.permutation(demand.nodes))


def best_single(demand: Demand, rng: np.random.Generator) -> Indices:
    """Take the one node with the best mean quality."""
    quality = np.where(demand.standby <= demand.power, demand.quality @ demand.rate, -1)
    return np.array([quality.argmax()], dtype=np.intp)


def by_answers(solver: SolverName) -> Callable[[Demand, np.random.Generator], Indices]:
    """Select by the optimizer with the energy of each answer; it knows nothing of nodes' time."""

    def choose(demand: Demand, rng: np.random.Generator) -> Indices:
        return _select(demand, demand.worth, demand.joules, demand.power, solver)

    return choose


def by_price(solver: SolverName) -> Callable[[Demand, np.random.Generator], Indices]:
    """Select by the optimizer at a price of energy, found by halving, and standby as the budget."""

    def choose(demand: Demand, rng: np.random.Generator) -> Indices:
        low, high = 0.0, float((demand.worth / demand.joules).max())
        best = np.zeros(0, dtype=np.intp)
        for _ in range(12):
            price = (low + high) / 2
            net = np.maximum(demand.worth - price * demand.joules, 0)
            nodes = _select(demand, net, None, demand.power, solver)
            watts = float(demand.standby[nodes].sum())
            if len(nodes):
                take = net[nodes].argmax(axis=0)
                groups = np.flatnonzero(net[nodes].max(axis=0) > 0)
                watts += float(demand.load_w[nodes[take[groups]], groups].sum())
            if watts <= demand.power:
                best, high = nodes, price
            else:
                low = price
        return best

    return choose


RIVALS: dict[str, Callable[[Demand, np.random.Generator], Indices]] = {
    "greedy": greedy,
    "Top-k": top_k,
    "best single": best_single,
    "random": random,
}


def milp(demand: Demand, limit_s: float, *, all_on: bool = False) -> Best:
    """Solve the whole problem: who is on, and which share of each group goes where.

    Args:
        all_on: every node is on; then it is a linear program.
    """
    nodes, groups = demand.worth.shape
    pairs = np.argwhere(demand.worth > 0)
    n, p = pairs[:, 0], pairs[:, 1]
    count, columns = len(pairs), np.arange(len(pairs))
    on = count + np.arange(nodes)
    rows = [(columns[p == group], np.ones((p == group).sum()), 1.0) for group in range(groups)]
    for node in range(nodes):
        mine = columns[n == node]
        work = demand.work[node, p[mine]]
        rows.append((np.append(mine, on[node]), np.append(work, -demand.room[node]), 0.0))
    if not all_on:
        rows += [(np.array([k, on[n[k]]]), np.array([1.0, -1.0]), 0.0) for k in range(count)]
    watts = np.append(demand.load_w[n, p], demand.standby)
    rows.append((np.arange(count + nodes), watts, demand.power))
    program = highspy.HighsLp()
    program.num_col_, program.num_row_ = count + nodes, len(rows)
    program.sense_ = highspy.ObjSense.kMaximize
    program.col_cost_ = np.append((demand.rate * demand.worth)[n, p], np.zeros(nodes))
    program.col_lower_ = np.append(np.zeros(count), np.full(nodes, float(all_on)))
    program.col_upper_ = np.ones(count + nodes)
    program.row_lower_ = np.full(len(rows), -highspy.kHighsInf)
    program.row_upper_ = np.array([row[2] for row in rows])
    program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    program.a_matrix_.start_ = np.append(0, np.cumsum([len(row[0]) for row in rows]))
    program.a_matrix_.index_ = np.concatenate([row[0] for row in rows])
    program.a_matrix_.value_ = np.concatenate([row[1] for row in rows])
    if not all_on:
        kinds = highspy.HighsVarType
        program.integrality_ = [kinds.kContinuous] * count + [kinds.kInteger] * nodes
    solver = highspy.Highs()
    for name, value in (("output_flag", False), ("time_limit", limit_s), ("threads", 1)):
        solver.setOptionValue(name, value)
    solver.setOptionValue("mip_rel_gap", 1e-5)
    solver.passModel(program)
    solver.run()
    info = solver.getInfo()
    found = np.array(solver.getSolution().col_value)
    worth = float(info.objective_function_value)
    selected = np.flatnonzero(found[count:] > 0.5).tolist()
    return Best(worth, worth if all_on else float(info.mip_dual_bound), selected)


def _as_fits(demand: Demand, order: Indices) -> Indices:
    power, chosen = demand.power, []
    for n in order.tolist():
        if demand.standby[n] <= power:
            chosen.append(n)
            power -= demand.standby[n]
    return np.sort(np.array(chosen, dtype=np.intp))


def _select(
    demand: Demand,
    worth: np.typing.NDArray[np.float64],
    joules: np.typing.NDArray[np.float64] | None,
    power: float,
    solver: SolverName,
) -> Indices:
    experts = tuple(Expert(str(n), watts) for n, watts in enumerate(demand.standby.tolist()))
    prompts = tuple(Prompt(str(p), "", rate) for p, rate in enumerate(demand.rate.tolist()))
    quality = np.ascontiguousarray(worth.T)
    answers = None if joules is None else np.ascontiguousarray(joules.T)
    problem = Problem(experts, prompts, quality, Budgets(power), query_energy_j=answers)
    found = select(problem, solver=solver, time_limit_s=5)
    return np.array(sorted(int(name) for name in found.selected), dtype=np.intp)
