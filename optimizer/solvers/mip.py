"""Selection handed to a MILP solver by PuLP: rivals to measure against, never the default."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from updraft.errors import ProblemError, RuntimeMissing
from updraft.optimizer.objective import value_of
from updraft.optimizer.problem import Matrix
from updraft.optimizer.program import Layer, Program
from updraft.optimizer.routing import route
from updraft.optimizer.solution import Solution

Engine = Literal["cbc", "highs"]
Formulation = Literal["plain", "benders"]

# Solvers keep rows within an absolute 1e-6, which would say too little about larger costs.
_LARGEST_COST = 2.0**20
# Of prompts, per layer: fewer take more rounds, more make each round slower. Measured best of
# 50, 200 and 1000 at 50 experts and 1000 prompts.
_BLOCKS = 200
# Relative; what differs by less is the same for a solver.
_TOLERANCE = 1e-6


def solve(
    program: Program,
    *,
    engine: Engine,
    formulation: Formulation = "plain",
    time_limit_s: float | None = None,
    clock: Callable[[], float] = perf_counter,
) -> Solution:
    """Return the best selection that a MILP solver finds, with the bound that it claims.

    The claim holds within the tolerances of floating point. What the solver selects is not
    taken on trust: its costs are added up exactly and its value is worked out again.

    Args:
        formulation: "plain" has a variable for each expert and prompt; "benders" has one for
            each expert and each block of prompts, with cuts that are added in rounds.

    Raises:
        RuntimeMissing: PuLP or the engine is not installed.
        ProblemError: "benders" was asked for where answers cost energy.
    """
    if formulation == "benders" and program.query_cost is not None:
        raise ProblemError(
            ["Benders cuts know no energy per answer: leave it out, or use the plain formulation"]
        )
    rival = _Rival(program, engine, time_limit_s, clock)
    if not rival.on:
        return rival.solution((), 0.0, proven=True)
    return _plain(rival) if formulation == "plain" else _benders(rival)


class _Rival:
    """A model with a yes or no for each expert and a row for each budget, and its solver."""

    def __init__(
        self,
        program: Program,
        engine: Engine,
        time_limit_s: float | None,
        clock: Callable[[], float],
    ) -> None:
        self.program = program
        self.pulp, self._solver = _installed(engine)
        self._clock = clock
        self._deadline = math.inf if time_limit_s is None else clock() + time_limit_s
        self.experts = program.usable[program.value[program.usable].any(axis=1)]
        # Values from 1 to 2 at most, whatever the weights: tolerances are absolute. Powers of
        # two, so that nothing is rounded.
        self.scale = 2.0 ** -math.floor(math.log2(program.value.max(initial=0) or 1))
        self.model = self.pulp.LpProblem("selection", self.pulp.LpMaximize)
        self.on = {
            int(expert): self.model.add_variable(f"y{expert}", cat=self.pulp.LpBinary)
            for expert in self.experts
        }

    def limit_costs(self, answers: dict[Any, float]) -> None:
        """Add the rows of the budgets; `answers` are taken from the first."""
        for number, (row, cost) in enumerate(
            zip(self.program.rows, self.program.cost, strict=True)
        ):
            terms = {on: float(cost[expert]) for expert, on in self.on.items()}
            if number == 0:
                terms |= answers
            scale = min(1.0, _LARGEST_COST / 2.0 ** math.ceil(math.log2(max(row.limit, 1.0))))
            taken = {name: amount * scale for name, amount in terms.items() if amount}
            if taken:
                self.at_most(taken, row.limit * scale)

    def at_most(self, terms: dict[Any, float], limit: float) -> None:
        """Add a row."""
        row = self.pulp.LpConstraint(
            self.pulp.LpAffineExpression(terms), self.pulp.LpConstraintLE, rhs=limit
        )
        self.model.addConstraint(row)

    def maximise(self, terms: dict[Any, float]) -> None:
        """Set the objective."""
        self.model.setObjective(self.pulp.LpAffineExpression(terms))

    @property
    def late(self) -> bool:
        """Whether the time is up."""
        return self._clock() >= self._deadline

    def run(self, *, relaxed: bool = False) -> tuple[float, bool]:
        """Solve the model and return its bound, and whether that was reached."""
        left_s = self._deadline - self._clock()
        if left_s <= 0:
            return math.inf, False
        solver = self._solver(
            mip=not relaxed,
            msg=False,
            gapRel=0.0,
            gapAbs=0.0,
            threads=1,
            timeLimit=None if math.isinf(left_s) else left_s,
        )
        self.model.solve(solver)
        if self.model.sol_status == self.pulp.LpSolutionOptimal:
            return float(self.pulp.value(self.model.objective)) / self.scale, True
        if relaxed or self.model.solverModel is None:
            return math.inf, False
        return -float(self.model.solverModel.getInfo().mip_dual_bound) / self.scale, False

    def shares(self) -> NDArray[np.float64]:
        """Return what each of `experts` is on, between 0 and 1, as far as the solver came."""
        values = [on.varValue or 0.0 for on in self.on.values()]
        return np.clip(np.array(values, dtype=np.float64), 0.0, 1.0)

    def selection(self) -> tuple[tuple[int, ...], bool]:
        """Return the experts that are on, and whether some had to be dropped for a budget."""
        chosen = [int(expert) for expert in self.experts[self.shares() > 0.5]]
        kept = chosen.copy()
        while not self.program.fits(kept):
            over = self.program.cost[:, kept].sum(axis=1) > self.program.limit
            worth = {
                expert: value_of(self.program, [other for other in kept if other != expert])
                for expert in kept
                if self.program.cost[over, expert].any()
            }
            kept.remove(max(worth, key=worth.__getitem__))
        return tuple(kept), kept != chosen

    def solution(self, selected: tuple[int, ...], bound: float, *, proven: bool) -> Solution:
        """Return a selection with what it is worth and a bound; the same where that is proven."""
        objective = float(route(self.program, selected).objective)
        if proven and bound <= objective * (1 + _TOLERANCE):
            return Solution(selected, objective, objective)
        everything = float(value_of(self.program, self.experts))
        return Solution(selected, objective, max(objective, min(bound, everything)))


def _installed(engine: Engine) -> tuple[Any, Callable[..., Any]]:
    """Return PuLP, and what makes a solver of it."""
    try:
        import pulp  # noqa: PLC0415 (an extra that nothing else needs)
    except ImportError as error:
        raise RuntimeMissing(
            "PuLP, which hands problems to solvers, is not installed: "
            "pip install 'updraft[optimizer]'"
        ) from error
    if engine == "highs":
        if not pulp.HiGHS().available():
            raise RuntimeMissing(
                "HiGHS (highspy) is not installed: pip install 'updraft[optimizer]'"
            )
        return pulp, pulp.HiGHS
    path = pulp.PULP_CBC_CMD.pulp_cbc_path
    if not pulp.COIN_CMD(path=path).available():
        raise RuntimeMissing(
            f"CBC, which comes with PuLP, does not run here ({path}): "
            "pip install 'updraft[optimizer]', or use HiGHS"
        )

    def cbc(**options: Any) -> Any:
        # By itself CBC takes what is better by less than 1e-5 for equal.
        return pulp.COIN_CMD(path=path, options=["increment 1e-9"], **options)

    return pulp, cbc


def _plain(rival: _Rival) -> Solution:
    """Maximise Σ value·z with z_pi <= y_i and Σ_i z_pi <= capacity, one z for each layer."""
    program, model = rival.program, rival.model
    worth: dict[Any, float] = {}
    answers: dict[Any, float] = {}
    crowded: list[tuple[dict[Any, float], int]] = []
    for number, layer in enumerate(program.layers):
        for prompt, value in enumerate(program.value.T.tolist()):
            served: dict[Any, float] = {}
            for expert, on in rival.on.items():
                if value[expert] > 0:
                    share = model.add_variable(f"z{number}_{prompt}_{expert}", lowBound=0)
                    worth[share] = value[expert] * layer.step * rival.scale
                    served[share] = 1.0
                    rival.at_most({share: 1.0, on: -1.0}, 0.0)
                    if program.query_cost is not None:
                        answers[share] = float(program.query_cost[expert, prompt])
            if len(served) > layer.capacity:
                crowded.append((served, layer.capacity))
    for served, capacity in crowded:
        rival.at_most(served, capacity)
    rival.limit_costs(answers)
    rival.maximise(worth)
    bound, reached = rival.run()
    selected, dropped = rival.selection()
    return rival.solution(selected, bound, proven=reached and not dropped)


def _benders(rival: _Rival) -> Solution:
    """Maximise Σ_b θ_b, where cuts bound what a block of prompts is worth; z is gone.

    Cuts are made at the optimum of the relaxation until it stands, then at integer optima until
    one is worth what the model says.
    Source: Cordeau, Furini, Ljubić, Benders decomposition for very large scale partial set
    covering and maximal covering location problems, 2019. Differs: rounds in place of callbacks,
    which PuLP does not have; any values in place of 0 and 1.
    """
    blocks = [_Blocks(rival, number, layer) for number, layer in enumerate(rival.program.layers)]
    rival.limit_costs({})
    rival.maximise({theta: 1.0 for block in blocks for theta in block.thetas})
    bound, objective = math.inf, 0.0
    best: tuple[int, ...] = ()
    seen: set[tuple[int, ...]] = set()
    relaxed = True
    while not rival.late:
        claim, reached = rival.run(relaxed=relaxed)
        bound = min(bound, claim)
        if relaxed:
            cut = [block.cut(rival.shares()) for block in blocks]
            relaxed = reached and any(cut)
            continue
        selected, dropped = rival.selection()
        worth = float(value_of(rival.program, selected))
        if worth > objective:
            best, objective = selected, worth
        cut = [block.cut(rival.shares().round()) for block in blocks]
        # What comes again has its cuts; only the solver's tolerance hides them.
        if not reached or not any(cut) or selected in seen:
            return rival.solution(best, bound, proven=reached and not dropped)
        seen.add(selected)
    return rival.solution(best, bound, proven=False)


class _Blocks:
    """What the blocks of prompts are worth in one layer, bounded from above by cuts."""

    def __init__(self, rival: _Rival, number: int, layer: Layer) -> None:
        self._rival = rival
        self._capacity = layer.capacity
        self._value = rival.program.value[rival.experts] * (layer.step * rival.scale)
        self._order = np.argsort(-self._value, axis=0, kind="stable")
        self._sorted = np.take_along_axis(self._value, self._order, axis=0)
        prompts = self._value.shape[1]
        self._starts = np.unique(np.linspace(0, prompts, _BLOCKS, endpoint=False).astype(np.intp))
        most = self._in_blocks(self._sorted[: layer.capacity].sum(axis=0))
        self.thetas = [
            rival.model.add_variable(f"theta{number}_{block}", lowBound=0, upBound=float(top))
            for block, top in enumerate(most)
        ]

    def cut(self, shares: NDArray[np.float64]) -> bool:
        """Add θ_b <= Σ_p (capacity·u_p + Σ_i (v_ip - u_p)^+ y_i) where that is not kept.

        u_p is the value of the expert that fills the capacity, the best being taken first.
        """
        filled = shares[self._order].cumsum(axis=0) >= self._capacity * (1 - 1e-9)
        last = np.take_along_axis(self._sorted, filled.argmax(axis=0)[None], axis=0)[0]
        u = np.where(filled.any(axis=0), last, 0.0)
        constants = self._in_blocks(self._capacity * u)
        slopes = self._in_blocks(np.maximum(self._value - u, 0.0))
        most = constants + shares @ slopes
        added = False
        for theta, top, constant, slope in zip(self.thetas, most, constants, slopes.T, strict=True):
            if (theta.varValue or 0.0) > top + _TOLERANCE * max(1.0, top):
                terms = {
                    on: -float(s)
                    for on, s in zip(self._rival.on.values(), slope, strict=True)
                    if s > 0
                }
                self._rival.at_most({theta: 1.0, **terms}, float(constant))
                added = True
        return added

    def _in_blocks(self, by_prompt: Matrix) -> Matrix:
        return np.asarray(np.add.reduceat(by_prompt, self._starts, axis=-1))
