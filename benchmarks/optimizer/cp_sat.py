"""CP-SAT on one problem, as a script for a Python of its own: `cp_sat.py PROBLEM.npz SECONDS`.

OR-Tools wants an older protobuf than Updraft does, so the two cannot share an environment. The
script prints one JSON object; its seconds leave out the start of Python.
"""

from __future__ import annotations

import json
import sys
from time import process_time

import numpy as np
from ortools.sat.python import cp_model  # type: ignore[import-not-found, unused-ignore]

# Qualities have so many decimals; CP-SAT wants whole numbers.
_SCALE = 10_000


def main(path: str, limit_s: float) -> None:
    """Solve the problem of an .npz with value (N, P), cost (K, N) and limit (K,)."""
    with np.load(path) as problem:
        value, cost, limit = (problem[name] for name in ("value", "cost", "limit"))
    started = process_time()
    whole = np.rint(value * _SCALE).astype(np.int64)
    model = cp_model.CpModel()
    on = [model.new_bool_var("") for _ in range(len(value))]
    terms, weights = [], []
    for quality in whole.T:
        serving = []
        for i in np.flatnonzero(quality):
            serves = model.new_bool_var("")
            model.add_implication(serves, on[i])
            serving.append(serves)
            weights.append(int(quality[i]))
        model.add_at_most_one(serving)
        terms += serving
    for costs, most in zip(cost, limit, strict=True):
        model.add(cp_model.LinearExpr.weighted_sum(on, costs.astype(int).tolist()) <= int(most))
    model.maximize(cp_model.LinearExpr.weighted_sum(terms, weights))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_time_in_seconds = limit_s
    status = solver.solve(model)
    found = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    answer = {
        "seconds": process_time() - started,
        "objective": solver.objective_value / _SCALE if found else 0.0,
        "upper_bound": solver.best_objective_bound / _SCALE,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
