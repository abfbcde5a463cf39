"""Certificates made at random hold to the last digit, and prove nothing that is not so.

What follows knows the problem only by its document, and adds up in fractions, one at a time.
"""

import itertools
import json
import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.optimizer.certificates import check_bounds
from updraft.optimizer.certificates.check import FORMAT, check
from updraft.optimizer.certificates.check_document import read, whole

UNIT = Fraction(1, 8)
LITTLE = Fraction(1, 10**60)


# A problem, slowly.


class Slow:
    """A document in fractions."""

    def __init__(self, document):
        self.document = document
        self.ids = [expert["id"] for expert in document["experts"]]
        budgets = document["budgets"]
        self.rows = {}
        self.closed = set()
        self.value = [
            [_exact(q) * _exact(prompt["weight"]) for q in qualities]
            for qualities, prompt in zip(document["quality"], document["prompts"], strict=True)
        ]
        if "energy_j" in budgets:
            self._row("energy_j", [e["energy_j"] for e in document["experts"]], budgets["energy_j"])
        for name, limit in budgets.get("resources", {}).items():
            taken = [expert["resources"][name] for expert in document["experts"]]
            self._row(f"resources.{name}", taken, limit)
        for category, limit in budgets.get("latency_ms", {}).items():
            taken = [expert["latency_ms"][category] for expert in document["experts"]]
            if document["latency_mode"] == "serial":
                self._row(f"latency_ms.{category}", taken, limit)
                continue
            for i, latency in enumerate(taken):
                if latency > limit and document["ineligible"] == "strict":
                    self.closed.add(i)
                for p, prompt in enumerate(document["prompts"]):
                    if latency > limit and prompt["category"] == category:
                        self.value[p][i] = Fraction(0)
        self.energy = None
        if "query_energy_j" in document and "energy_j" in budgets:
            self.energy = [
                [_exact(e) * _exact(prompt["weight"]) for e in energies]
                for energies, prompt in zip(
                    document["query_energy_j"], document["prompts"], strict=True
                )
            ]
        ranks = [_exact(weight) for weight in document["rank_weights"]] + [Fraction(0)]
        self.layers = [
            (r + 1, ranks[r] - ranks[r + 1])
            for r in range(len(ranks) - 1)
            if ranks[r] > ranks[r + 1]
        ]

    def _row(self, name, taken, limit):
        self.rows[name] = ([_exact(t) for t in taken], _exact(limit))

    def keeps(self, selected):
        return all(sum(taken[i] for i in selected) <= limit for taken, limit in self.rows.values())

    def worth(self, selected):
        """Answers free."""
        return sum(
            (
                step * sum(sorted((values[i] for i in selected), reverse=True)[:capacity])
                for capacity, step in self.layers
                for values in self.value
            ),
            Fraction(0),
        )

    def best_routing(self, selected):
        """By duality the least over all prices of energy, at which the order of experts changes."""
        if self.energy is None:
            return self.worth(selected)
        taken, limit = self.rows["energy_j"]
        left = limit - sum(taken[i] for i in selected)
        lines = [
            [(step * values[i], energies[i]) for i in selected]
            for values, energies in zip(self.value, self.energy, strict=True)
            for _, step in self.layers
        ]
        prices = {Fraction(0)}
        for of_prompt in lines:
            for (v, e), (w, f) in itertools.product(of_prompt, [*of_prompt, (0, 0)]):
                if e != f and (v - w) / (e - f) > 0:
                    prices.add((v - w) / (e - f))
        capacity = self.layers[0][0] if self.layers else 0
        return min(
            price * left
            + sum(
                sum(sorted((max(v - price * e, 0) for v, e in line), reverse=True)[:capacity])
                for line in lines
            )
            for price in prices
        )

    def feasible(self):
        allowed = [i for i in range(len(self.ids)) if i not in self.closed]
        for size in range(len(allowed) + 1):
            yield from filter(self.keeps, itertools.combinations(allowed, size))

    def best(self):
        return max(self.feasible(), key=self.worth)

    def undecided(self, inside, outside):
        return [
            i
            for i in range(len(self.ids))
            if i not in self.closed | inside | outside and self.keeps([*inside, i])
        ]

    def bound(self, point, inside, undecided):
        prices = {name: Fraction(price) for name, price in point["prices"].items()}
        total = sum((prices[name] * self.rows[name][1] for name in prices), Fraction(0))
        profit = [
            -sum(prices[name] * self.rows[name][0][i] for name in prices)
            for i in range(len(self.ids))
        ]
        for (capacity, step), u in zip(self.layers, point["u"], strict=True):
            for p, multiple in enumerate(u):
                total += capacity * multiple * UNIT
                for i in range(len(self.ids)):
                    dear = 0 if self.energy is None else prices.get("energy_j", 0)
                    energy = dear * self.energy[p][i] if dear else 0
                    profit[i] += max(step * self.value[p][i] - energy - multiple * UNIT, 0)
        return total + sum(profit[i] for i in inside) + sum(max(profit[i], 0) for i in undecided)

    def grid(self):
        worths = [step * v for _, step in self.layers for values in self.value for v in values]
        common = Fraction(0)
        for worth in worths:
            while worth:
                common, worth = worth, common % worth  # noqa: PLW2901
        return common


def _exact(number):
    return Fraction(repr(number))


# Problems and certificates at random.


def number(rng, digits):
    return rng.random() if digits > 15 else round(rng.random(), digits)


def problem(rng, *, experts=5, prompts=3, k=1, mode="parallel", ineligible="lenient", digits=1):
    """Budgets are about half of what all take; `digits` are those after the point."""
    amount = lambda: round(10 * rng.random(), min(digits, 2))  # noqa: E731
    categories = ("chat", "code")
    document = {
        "experts": [
            {
                "id": f"e{i}",
                "energy_j": amount(),
                "latency_ms": {category: amount() for category in categories},
                "resources": {"memory": amount()},
            }
            for i in range(experts)
        ],
        "prompts": [
            {"id": f"p{p}", "category": rng.choice(categories), "weight": rng.choice([1, 2, 0.3])}
            for p in range(prompts)
        ],
        "quality": [[number(rng, digits) for _ in range(experts)] for _ in range(prompts)],
        "budgets": {
            "energy_j": round(2.5 * experts, 1),
            "resources": {"memory": round(3 * rng.random() * experts, 1)},
            "latency_ms": {"chat": round(3.0 * experts, 1) if mode == "serial" else 7.5},
        },
        "top_k": k,
        "rank_weights": sorted((round(rng.random(), 1) for _ in range(k)), reverse=True),
        "latency_mode": mode,
        "ineligible": ineligible,
    }
    document["rank_weights"][0] = 1
    return document


def with_query_energy(rng, document, digits):
    experts = len(document["experts"])
    document["query_energy_j"] = [
        [number(rng, digits) for _ in range(experts)] for _ in document["prompts"]
    ]
    document["rank_weights"] = [1] * document["top_k"]
    return document


def point(rng, slow):
    prompts = len(slow.value)
    chosen = rng.sample(sorted(slow.rows), rng.randint(0, len(slow.rows)))
    return {
        "u": [[rng.randint(0, 9) for _ in range(prompts)] for _ in slow.layers],
        "prices": {name: f"{rng.randint(0, 5)}/{rng.choice([7, 16, 100])}" for name in chosen},
    }


def certificate(slow, selected, points, tree, upper_bound, **more):
    made = {
        "format": FORMAT,
        "selected": [slow.ids[i] for i in selected],
        "objective": str(slow.worth(selected)),
        "upper_bound": str(upper_bound),
        "unit": str(UNIT),
        "points": points,
        "dominated": [],
        "tree": tree,
    }
    if slow.energy is not None:
        made |= routing(slow, selected)
    return json.loads(json.dumps(made | more))


def routing(slow, selected):
    """Send a third of each prompt to the first expert that the energy still allows."""
    taken, limit = slow.rows["energy_j"]
    left = limit - sum(taken[i] for i in selected)
    share, worth, assignment = Fraction(1, 3), Fraction(0), {}
    for p, values in enumerate(slow.value):
        for i in selected:
            if slow.layers and share * slow.energy[p][i] <= left:
                left -= share * slow.energy[p][i]
                worth += share * slow.layers[0][1] * values[i]
                assignment[f"p{p}"] = [[slow.ids[i], str(share)]]
                break
    return {"assignment": assignment, "objective": str(worth)}


def whole_tree(slow, inside=frozenset(), outside=frozenset()):
    undecided = slow.undecided(inside, outside)
    if not undecided:
        return [{"leaf": "all"}]
    one = {undecided[0]}
    return [
        {"split": slow.ids[undecided[0]]},
        *whole_tree(slow, inside, outside | one),
        *whole_tree(slow, inside | one, outside),
    ]


def random_tree(rng, slow, points, bounds, inside=frozenset(), outside=frozenset()):
    """Split, fix and stop at random; the largest bound that it takes goes to `bounds`."""
    undecided = slow.undecided(inside, outside)
    overrun = not slow.keeps(inside)
    chosen = rng.randrange(len(points))
    what = rng.choice(["split", "fix", "leaf", "all", "split"]) if undecided else "leaf"
    if what == "split":
        one = {rng.choice(undecided)}
        return [
            {"split": slow.ids[next(iter(one))]},
            *random_tree(rng, slow, points, bounds, inside, outside | one),
            *random_tree(rng, slow, points, bounds, inside | one, outside),
        ]
    if what == "fix":
        fixed = rng.sample(undecided, rng.randint(1, len(undecided)))
        come, go = fixed[: len(fixed) // 2], fixed[len(fixed) // 2 :]
        for i in fixed:
            rest = [j for j in undecided if j != i]
            bounds.append(slow.bound(points[chosen], inside | ({i} & set(go)), rest))
        names = {"in": [slow.ids[i] for i in come], "out": [slow.ids[i] for i in go]}
        return [
            {"fix": names, "point": chosen},
            *random_tree(rng, slow, points, bounds, inside | set(come), outside | set(go)),
        ]
    if not overrun and what == "all":
        bounds.append(slow.worth([*inside, *undecided]))
    elif not overrun:
        bounds.append(slow.bound(points[chosen], inside, undecided))
    return [{"leaf": "all" if what == "all" else chosen}]


def part_of(slow, path):
    """Return who is in and out by a path such as "out: e3, e7 / in: e2 (tree entry 9)"."""
    sides = dict(words.split(": ") for words in path.partition(" (")[0].split(" / "))
    return [
        {slow.ids.index(one) for one in sides[side].split(", ")} if side in sides else set()
        for side in ("in", "out")
    ]


kinds = st.fixed_dictionaries(
    {
        "experts": st.integers(1, 6),
        "prompts": st.integers(1, 3),
        "k": st.integers(1, 3),
        "mode": st.sampled_from(["parallel", "serial"]),
        "ineligible": st.sampled_from(["lenient", "strict"]),
        "digits": st.sampled_from([1, 3, 17]),
    }
)


# True ones hold, and by no more than they say.


@settings(max_examples=250)
@given(kind=kinds, energy=st.booleans(), seed=st.integers(0, 2**32))
def test_a_bound_is_exact_and_never_below_a_feasible_selection(kind, energy, seed):
    rng = random.Random(seed)
    kind = kind | {"k": min(kind["k"], kind["experts"])}
    document = problem(rng, **kind)
    if energy:
        document = with_query_energy(rng, document, kind["digits"])
    slow = Slow(document)
    at = point(rng, slow)
    bound = slow.bound(at, [], slow.undecided(frozenset(), frozenset()))
    best = max(slow.best_routing(selected) for selected in slow.feasible())
    assert bound >= best
    leaf = [{"leaf": 0}]
    assert check(document, certificate(slow, (), [at], leaf, bound)).holds
    if bound > 0:
        less = check(document, certificate(slow, (), [at], leaf, bound - LITTLE * bound))
        assert not less.holds
        assert less.path == "the whole problem (tree entry 0)"


@settings(max_examples=250)
@given(kind=kinds, energy=st.booleans(), seed=st.integers(0, 2**32))
def test_trees_of_every_shape_hold_at_their_largest_bound_alone(kind, energy, seed):
    rng = random.Random(seed)
    kind = kind | {"k": min(kind["k"], kind["experts"])}
    document = problem(rng, **kind)
    if energy:
        document = with_query_energy(rng, document, kind["digits"])
    slow = Slow(document)
    points = [point(rng, slow) for _ in range(3)]
    bounds = [Fraction(0)]
    tree = random_tree(rng, slow, points, bounds)
    most = max(bounds)
    assert most >= max(slow.best_routing(selected) for selected in slow.feasible())
    verdict = check(document, certificate(slow, (), points, tree, most))
    assert verdict.holds, verdict
    if most > 0:
        less = check(document, certificate(slow, (), points, tree, most - LITTLE * most))
        assert not less.holds
        assert "tree entry" in less.path


@pytest.mark.parametrize("seed", range(30))
def test_a_whole_tree_proves_the_best_and_nothing_less(seed):
    rng = random.Random(seed)
    mode, ineligible = rng.choice(["parallel", "serial"]), rng.choice(["lenient", "strict"])
    digits = rng.choice([1, 2, 17])
    document = problem(rng, k=rng.randint(1, 3), mode=mode, ineligible=ineligible, digits=digits)
    slow = Slow(document)
    best, tree = slow.best(), whole_tree(slow)
    verdict = check(document, certificate(slow, best, [], tree, slow.worth(best)))
    assert verdict.holds, verdict
    assert verdict.exact
    assert verdict.parts == sum("leaf" in step for step in tree)
    assert Fraction(verdict.objective) == Fraction(verdict.upper_bound) == slow.worth(best)
    if not slow.worth(best):
        return
    less = check(document, certificate(slow, (), [], tree, slow.worth(best) - slow.grid()))
    assert not less.holds
    inside, outside = part_of(slow, less.path)
    there = [*inside, *slow.undecided(inside, outside)]
    assert slow.worth(there) == slow.worth(best)


def test_numbers_of_any_length_are_added_exactly():
    """Short decimals in int64, doubles of 17 digits in two halves, the rest in Python's."""
    rng = random.Random(5)
    kinds_seen = []
    for digits, tiny in ((2, 0.01), (17, 3e-21), (2, 1e-200)):
        document = problem(rng, experts=6, prompts=4, digits=digits)
        document["quality"][0][0] = tiny
        slow = Slow(document)
        asked = read(document)
        surplus = check_bounds._surplus(asked, asked.layers[0][1], UNIT, Fraction(0))
        kinds_seen.append((surplus.high.dtype == object, surplus.low is not None))
        for _ in range(20):
            at = point(rng, slow)
            at["u"][0][0] *= rng.randrange(2)  # else the tiny value never counts
            bound = slow.bound(at, [], slow.undecided(frozenset(), frozenset()))
            tree = [{"leaf": 0}]
            little = Fraction(1, 10**250)
            assert check(document, certificate(slow, (), [at], tree, bound)).holds
            assert not check(document, certificate(slow, (), [at], tree, bound - little)).holds
    assert kinds_seen == [(False, False), (False, True), (True, False)]


@settings(max_examples=300)
@given(st.lists(st.floats(0, 2**53) | st.floats(0, 1), min_size=1, max_size=3))
def test_a_number_is_the_shortest_decimal_that_reads_back(numbers):
    made, scale = whole(np.array(numbers))
    assert [Fraction(int(one), scale) for one in made] == [_exact(number) for number in numbers]


def test_a_gap_below_the_grid_is_exact():
    document = problem(random.Random(1))
    slow = Slow(document)
    best = slow.best()
    for gap, exact in ((slow.grid() - LITTLE, True), (slow.grid(), False)):
        made = certificate(slow, best, [], whole_tree(slow), slow.worth(best) + gap)
        verdict = check(document, made)
        assert verdict.holds
        assert verdict.exact is exact


@pytest.mark.parametrize("seed", range(60))
def test_dominance_is_believed_only_where_it_is_so(seed):
    rng = random.Random(seed)
    k = rng.choice([1, 1, 1, 2])
    ineligible = rng.choice(["lenient", "strict"])
    document = problem(rng, experts=6, prompts=1, k=k, ineligible=ineligible)
    slow = Slow(document)
    points, tree = [], [{"leaf": "all"}]
    for one, other in itertools.permutations(range(6), 2):
        truly = (
            [capacity for capacity, _ in slow.layers] == [1]
            and other not in slow.closed
            and all(values[one] <= values[other] for values in _served(slow))
            and all(taken[one] >= taken[other] for taken, _ in slow.rows.values())
        )
        pairs = [[slow.ids[one], slow.ids[other]]]
        made = certificate(slow, (), points, tree, slow.worth(range(6)), dominated=pairs)
        verdict = check(document, made)
        assert verdict.holds == truly, verdict


def _served(slow):
    return [[0 if i in slow.closed else v for i, v in enumerate(vs)] for vs in slow.value]
