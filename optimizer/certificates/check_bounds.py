"""What the points of a certificate say of any part of the search, exactly.

A point (u, λ) with u, λ >= 0 bounds every selection that keeps the budgets: with experts A in,
R undecided and the rest out, none is worth more than

    Σ_layers capacity Σ_p u_p + λ·limit + Σ_{i in A} ρ_i + Σ_{i in R} max(ρ_i, 0),
    ρ_i = Σ_layers Σ_p (v_ip − λ_0·energy_ip − u_p)^+ − λ·cost_i.

The sums Σ_p depend on the point alone, so they are made once for each point that is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray

from updraft.optimizer.certificates.check_claims import above, listed, quoted, rational, refuse
from updraft.optimizer.certificates.check_document import ROOM, Asked, Whole

_BLOCK = 2**16  # numbers that stay in a core's cache


@dataclass(frozen=True, eq=False)
class _Surplus:
    """v − λ_0·energy of a layer: `high` in 1/scale, and `low` of 1/rest of that on top.

    Two halves keep decimals of 17 digits in int64. A multiple of the certificate's unit is `unit`
    in 1/scale, so that u has no low half.
    """

    high: Whole
    low: Whole | None
    scale: int
    rest: int
    unit: int

    def over(self, u: Whole) -> Whole:
        """Return Σ_p (v − u)^+ of each expert, in 1/(scale·rest), as Python's integers."""
        if self.high.dtype == object:
            floor = u.astype(object) * self.unit
        else:  # above the largest v all u are alike; so the product is no overflow
            most = max(0, int(self.high.max(initial=0))) // self.unit + 1
            floor = np.minimum(u, most) * self.unit
        prompts, experts = self.high.shape
        total = np.zeros(experts, dtype=object)
        block = _BLOCK // max(experts, 1) + 1
        for start in range(0, prompts, block):
            of = slice(start, start + block)
            over = self.high[of] - floor[of, None]
            if self.low is None:
                total += np.maximum(over, 0, out=over).sum(axis=0)
            else:
                inside = over >= 0
                total += (over * inside).sum(axis=0).astype(object) * self.rest
                total += (self.low[of] * inside).sum(axis=0)
        return total


def _surplus(asked: Asked, step: int, unit: Fraction, price: Fraction) -> _Surplus:
    """Put v − price·energy and u over one scale, in int64 if no sum over prompts can overflow."""
    own = asked.scale * asked.step_scale
    prompts, largest = len(asked.prompts), max(1, int(asked.value.max(initial=0))) * step
    scale = lcm(own, unit.denominator)
    value = asked.value
    if asked.energy is not None and price:
        scale = lcm(scale, price.denominator * asked.energy_scale)
        dear = int(price * scale / asked.energy_scale)
        room = largest * scale // own + max(1, int(asked.energy.max(initial=0))) * dear
        kind = np.int64 if (room + unit * scale) * prompts < ROOM else object
        high = value.astype(kind) * (step * scale // own) - asked.energy.astype(kind) * dear
        return _Surplus(high, None, scale, 1, int(unit * scale))

    def fits(scale: int) -> bool:
        return (largest * scale // own + 1 + unit * scale) * prompts < ROOM

    if fits(scale):
        high = value.astype(np.int64, copy=False) * (step * scale // own)
        return _Surplus(high, None, scale, 1, int(unit * scale))
    scale = unit.denominator
    while fits(scale * 10):
        scale *= 10
    rest = lcm(scale, own) // scale
    exact = value.astype(object) * (step * scale * rest // own)
    if not fits(scale) or rest * prompts >= ROOM:
        return _Surplus(exact, None, scale * rest, 1, int(unit * scale * rest))
    high, low = (exact // rest).astype(np.int64), (exact % rest).astype(np.int64)
    return _Surplus(high, low, scale, rest, int(unit * scale))


@dataclass(frozen=True, eq=False)
class Bound:
    """A point of the dual, in 1/scale: what it says of any part, and the most that is allowed."""

    base: int
    profit: Whole
    gain: Whole
    scale: int
    most: int

    def of(self, inside: NDArray[np.bool_], undecided: NDArray[np.bool_]) -> int:
        """Return the bound of a part."""
        return int(self.base + self.profit[inside].sum() + self.gain[undecided].sum())

    def check(self, bound: int, upper_bound: Fraction) -> None:
        if bound > self.most:
            refuse(f"the bound of this part {above(Fraction(bound, self.scale), upper_bound)}")


class Bounds:
    """The points of a certificate, each made when it is first used."""

    def __init__(self, asked: Asked, claims: Mapping[str, Any], upper_bound: Fraction) -> None:
        self._asked = asked
        self.upper_bound = upper_bound
        self._points = listed(claims.get("points"), "points")
        self._unit = rational(claims.get("unit"), "unit")
        if not self._unit:
            refuse("unit must not be 0")
        self._made: dict[int, Bound] = {}
        self._free: dict[int, _Surplus] = {}

    def __getitem__(self, index: Any) -> Bound:
        if type(index) is not int or not 0 <= index < len(self._points):
            refuse(f"no such point; there are {len(self._points)}, counted from 0")
        if index not in self._made:
            self._made[index] = self._make(self._points[index], f"points[{index}]")
        return self._made[index]

    def _make(self, point: Any, name: str) -> Bound:
        asked = self._asked
        if not isinstance(point, Mapping):
            refuse(f"{name} must be an object")
        prices = self._prices(point.get("prices", {}), name)
        u = self._u(point.get("u"), name)
        price = prices.get("energy_j", Fraction(0)) if asked.energy is not None else Fraction(0)
        layers = [self._surplus(step, price) for _, step in asked.layers]
        rows = [(k, prices[row]) for k, row in enumerate(asked.rows) if row in prices]
        scale = lcm(
            self._unit.denominator,
            *(layer.scale * layer.rest for layer in layers),
            *(price.denominator * asked.row_scale[k] for k, price in rows),
        )
        base, profit = 0, np.zeros(len(asked.experts), dtype=object)
        for (capacity, _), layer, values in zip(asked.layers, layers, u, strict=True):
            base += capacity * sum(values.tolist()) * int(self._unit * scale)
            profit += layer.over(values) * (scale // (layer.scale * layer.rest))
        for k, price in rows:
            whole_price = int(price * scale / asked.row_scale[k])
            base += whole_price * int(asked.limit[k])
            profit -= whole_price * asked.cost[k].astype(object)
        most = int(self.upper_bound * scale // 1)
        return Bound(base, profit, np.maximum(profit, 0), scale, most)

    def _prices(self, given: Any, name: str) -> dict[str, Fraction]:
        if not isinstance(given, Mapping):
            refuse(f"{name}: prices must be an object")
        for row in given:
            if row not in self._asked.rows:
                refuse(f"{name}: {quoted(row)} is no budget of the problem")
        prices = {row: rational(price, f"{name}: price of {row}") for row, price in given.items()}
        return {row: price for row, price in prices.items() if price}

    def _u(self, given: Any, name: str) -> list[Whole]:
        layers = listed(given, f"{name}: u")
        wanted = (len(self._asked.prompts),)
        if len(layers) != len(self._asked.layers):
            refuse(f"{name}: u must have a list for each of {len(self._asked.layers)} layers")
        made = []
        for layer in layers:
            try:
                values = np.array(listed(layer, f"{name}: u"))
            except (ValueError, OverflowError):  # ragged or huge
                values = np.array(None)
            if values.shape != wanted or values.dtype.kind != "i" or values.min() < 0:
                refuse(f"{name}: u must be {wanted[0]} whole numbers from 0 to 2^63 in each layer")
            made.append(values)
        return made

    def _surplus(self, step: int, price: Fraction) -> _Surplus:
        if price:  # hardly two points have the same
            return _surplus(self._asked, step, self._unit, price)
        if step not in self._free:
            self._free[step] = _surplus(self._asked, step, self._unit, price)
        return self._free[step]
