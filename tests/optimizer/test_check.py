"""Certificates made by hand: each holds, and what is changed in it is refused where it fails."""

import ast
import copy
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.errors import ProblemError
from updraft.optimizer.certificates import check as check_module
from updraft.optimizer.certificates.check import FORMAT, check

# By hand: three experts, two prompts; the best of one joule is {b, c}, worth 17/10.

SMALL = {
    "experts": [
        {"id": "a", "energy_j": 0.9},
        {"id": "b", "energy_j": 0.1},
        {"id": "c", "energy_j": 0.2},
    ],
    "prompts": [{"id": "x"}, {"id": "y", "weight": 1}],
    "quality": [[0.8, 0.9, 0.2], [0.6, 0.1, 0.8]],
    "budgets": {"energy_j": 0.3},
}
PROVED = {
    "format": FORMAT,
    "selected": ["b", "c"],
    "objective": "17/10",
    "upper_bound": "17/10",
    "unit": "1/10",
    "points": [{"u": [[2, 1]], "prices": {"energy_j": "0"}}],
    "tree": [{"split": "b"}, {"leaf": "all"}, {"fix": {"in": ["c"]}, "point": 0}, {"leaf": 0}],
}


def small(**changed):
    return copy.deepcopy(SMALL) | changed


def proved(**changed):
    return copy.deepcopy(PROVED) | changed


def test_a_certificate_by_hand():
    """Decimals are what they say: 0.1 + 0.2 J is no more than 0.3 J."""
    verdict = check(small(), proved())
    assert verdict.holds, verdict
    assert verdict.exact
    assert verdict.parts == 3
    assert (verdict.reason, verdict.path) == ("", "")


def test_one_unit_above_a_budget_is_too_much():
    document = small()
    document["experts"][2]["energy_j"] = 0.2000000000000001
    verdict = check(document, proved())
    assert not verdict.holds
    assert "selected takes 1e-16 more than the budget of energy_j" in verdict.reason


# Two points: the first suits every part of SMALL, the second only those where b is out.
POINTS = [*PROVED["points"], {"u": [[1, 1]], "prices": {}}]
SPLIT = [{"split": "b"}, {"leaf": 1}, {"leaf": "all"}]
FIX = [{"fix": {"in": ["b"]}, "point": 1}, {"leaf": "all"}]


@pytest.mark.parametrize("tree", [SPLIT, FIX, [{"leaf": 0}], [{"leaf": "all"}]])
def test_trees_by_hand(tree):
    assert check(small(), proved(points=POINTS, tree=tree)).holds


@pytest.mark.parametrize(
    ("changed", "reason", "path"),
    [
        ({"objective": "18/10", "upper_bound": "2"}, "is worth 1.7, not objective 1.8", ""),
        ({"objective": "16/10"}, "is worth 1.7, not objective 1.6", ""),
        ({"upper_bound": "16/10"}, "upper_bound 1.6 is below objective 1.7", ""),
        (
            {"selected": ["b"], "objective": "1", "upper_bound": "16/10"},
            "is 1.7, which is 0.1 above upper_bound",
            "in: b, c (tree entry 3)",
        ),
        ({"selected": ["a"]}, "0.6 more than the budget of energy_j, which is 0.3", ""),
        (
            {"points": [{"u": [[10, 1]], "prices": {}}]},
            "is 1.8, which is 0.1 above upper_bound",
            "in: b, c (tree entry 3)",
        ),
        (
            {"points": [{"u": [[2, 1]], "prices": {"energy_j": "10"}}]},
            "is 3, which is 1.3 above",
            "out: c / in: b (tree entry 2)",
        ),
        ({"tree": PROVED["tree"][:-1]}, "tree ends before this part is bounded", "in: b, c"),
        ({"tree": PROVED["tree"][:2]}, "tree ends before this part is bounded", "in: b"),
        ({"tree": []}, "tree ends before this part is bounded", "the whole problem"),
        ({"tree": [*PROVED["tree"], {"leaf": 0}]}, "goes on at entry 4", ""),
        ({"points": POINTS, "tree": [{"leaf": 1}]}, "is 1.8", "the whole problem (tree entry 0)"),
        (
            {"points": POINTS, "tree": [SPLIT[0], SPLIT[2], SPLIT[1]]},
            "is 1.8",
            "in: b (tree entry 2)",
        ),
        (
            {"points": POINTS, "tree": [{"fix": {"out": ["b"]}, "point": 1}, {"leaf": "all"}]},
            "is 1.8",
            "in: b (tree entry 0)",
        ),
        ({"tree": [{"split": "a"}]}, "a is decided already", "the whole problem (tree entry 0)"),
        ({"tree": [{"split": "b"}] * 2}, "b is decided already", "out: b (tree entry 1)"),
        (
            {"tree": [{"split": "b"}, {"fix": {"in": ["b"]}, "point": 0}]},
            "b is decided already",
            "out: b (tree entry 1)",
        ),
        (
            {"tree": [{"fix": {"in": ["b"], "out": ["b"]}, "point": 0}]},
            "named twice",
            "the whole problem (tree entry 0)",
        ),
        ({"dominated": [["b", "c"]]}, "b is worth more for a prompt", "dominated: b by c"),
        ({"dominated": [["c", "b"]]}, "c is worth more for a prompt", "dominated: c by b"),
    ],
)
def test_what_is_changed_is_refused(changed, reason, path):
    verdict = check(small(), proved(**changed))
    assert not verdict.holds
    assert reason in verdict.reason
    assert verdict.path == path
    assert not verdict.exact


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"format": "updraft-certificate-2"}, "format"),
        ({"selected": None}, "selected must be a list"),
        ({"selected": [["b"]]}, "no expert"),
        ({"selected": ["z"]}, "no expert 'z'"),
        ({"objective": 1.7}, "objective must be written"),
        ({"objective": "1.7"}, "objective must be written"),
        ({"objective": "1e999999999"}, "objective must be written"),
        ({"upper_bound": "1/0"}, "upper_bound must be written"),
        ({"upper_bound": "9" * 5000}, "upper_bound must be written"),
        ({"unit": "0"}, "unit must not be 0"),
        ({"unit": "-1/8"}, "unit must be written"),
        ({"points": {}}, "points must be a list"),
        ({"points": []}, "no such point"),
        ({"points": [7]}, "must be an object"),
        ({"points": [{"u": [[2]]}]}, "u must be 2 whole numbers"),
        ({"points": [{"u": [[2, -1]]}]}, "u must be 2 whole numbers"),
        ({"points": [{"u": [[2, 1.0]]}]}, "u must be 2 whole numbers"),
        ({"points": [{"u": [[2, None]]}]}, "u must be 2 whole numbers"),
        ({"points": [{"u": [[2, [1]]]}]}, "u must be 2 whole numbers"),
        ({"points": [{"u": [[2, 10**400]]}]}, "u must be 2 whole numbers"),
        ({"points": [{"u": [[0.5, 10**400]]}]}, "u must be 2 whole numbers"),
        ({"points": [{"u": [[2, 1], [2, 1]]}]}, "for each of 1 layers"),
        ({"points": [{"u": [[2, 1]], "prices": {"energy_j": "-1"}}]}, "price of energy_j"),
        ({"points": [{"u": [[2, 1]], "prices": {"watts": "1"}}]}, "'watts' is no budget"),
        ({"points": [{"u": [[2, 1]], "prices": []}]}, "prices must be an object"),
        ({"points": [{"u": [[2**62, 2**63 - 1]]}]}, "is 1.38"),
        ({"tree": None}, "tree must be a list"),
        ({"tree": [3]}, "must be an object"),
        ({"tree": [{}]}, "must be a leaf, a split, or a fix"),
        ({"tree": [{"fix": {"in": ["b"]}}]}, "must be a leaf, a split, or a fix"),
        ({"tree": [{"fix": {"in": "b"}, "point": 0}]}, "fix: in must be a list"),
        ({"tree": [{"leaf": 1}]}, "no such point; there are 1"),
        ({"tree": [{"leaf": -1}]}, "no such point"),
        ({"tree": [{"leaf": False}]}, "no such point"),
        ({"tree": [{"leaf": None}]}, "no such point"),
        ({"tree": [{"split": {"b": 1}}]}, "no expert"),
        ({"dominated": [["a"]]}, "a pair must be two experts"),
        ({"dominated": ["ab"]}, "dominated must be a list"),
    ],
)
def test_nonsense_is_refused(changed, reason):
    verdict = check(small(), proved(**changed))
    assert not verdict.holds
    assert reason in verdict.reason


def test_a_certificate_must_be_an_object():
    for nonsense in (None, [], "x", 3):
        assert not check(small(), nonsense).holds


def test_a_split_closes_what_no_longer_fits():
    """b and a, or b and c, but never all three: in "in: a" all else is out without a word."""
    document = small(budgets={"energy_j": 0.95})
    tree = [{"split": "a"}, {"leaf": "all"}, {"leaf": "all"}]
    made = proved(tree=tree)
    assert check(document, made).holds
    refused = check(document, proved(tree=[*tree[:2], {"split": "b"}, *tree[1:]]))
    assert refused.path == "in: a (tree entry 2)"


def test_a_part_that_overruns_a_budget_is_closed_by_any_leaf():
    made = proved(
        points=[{"u": [[9, 8]], "prices": {}}],
        tree=[{"fix": {"in": ["a", "c"]}, "point": 0}, {"leaf": 77}],
    )
    assert check(small(budgets={"energy_j": 1.0}), made).holds
    verdict = check(small(budgets={"energy_j": 1.1}), made)
    assert "no such point" in verdict.reason
    assert verdict.path == "in: a, c (tree entry 1)"


def test_equals_may_not_dominate_each_other():
    """Else both would be left out, and with them the best."""
    document = small()
    document["experts"].append(document["experts"][1] | {"id": "twin"})
    document["quality"] = [[*row, row[1]] for row in document["quality"]]
    tree = [{"leaf": "all"}]
    assert check(document, proved(tree=tree, dominated=[["twin", "b"]])).holds
    assert check(document, proved(tree=tree, dominated=[["b", "twin"]])).holds
    both = check(document, proved(tree=tree, dominated=[["b", "twin"], ["twin", "b"]]))
    assert both.reason == "experts dominate each other in a circle"
    twice = check(document, proved(tree=tree, dominated=[["b", "twin"]] * 2))
    assert "twice" in twice.reason


def test_an_expert_that_is_too_slow_may_not_be_selected():
    document = small(ineligible="strict")
    document["budgets"]["latency_ms"] = {"chat": 5}
    for expert, latency_ms in zip(document["experts"], (1, 6, 1), strict=True):
        expert["latency_ms"] = {"chat": latency_ms}
    assert "b is too slow" in check(document, proved()).reason
    alone = {"selected": ["c"], "objective": "1"}
    assert "b is decided already" in check(document, proved(**alone)).reason
    document["ineligible"] = "lenient"
    assert check(document, proved()).holds  # no prompt is of that category
    document["ineligible"] = "strict"
    document["budgets"]["latency_ms"] = {"chat": 6}
    assert check(document, proved()).holds


# Answers that cost energy: b and c leave 0.5 J, which buys x from b and half of y from c.

DEAR = SMALL | {"budgets": {"energy_j": 0.8}, "query_energy_j": [[0, 0.3, 0], [0, 0, 0.4]]}
ROUTED = PROVED | {
    "objective": "27/20",
    "upper_bound": "27/20",
    "assignment": {"x": [["b", "1"]], "y": [["b", "1/2"], ["c", "1/2"]]},
    "points": [{"u": [[3, 1]], "prices": {"energy_j": "7/4"}}],
    "tree": [{"split": "b"}, {"leaf": "all"}, {"split": "c"}, {"leaf": "all"}, {"leaf": 0}],
}


def test_a_routing_within_the_budget():
    verdict = check(DEAR, ROUTED)
    assert verdict.holds, verdict
    assert verdict.exact
    verdict = check(DEAR, ROUTED | {"upper_bound": "1350001/1000000"})
    assert verdict.holds
    assert not verdict.exact  # shares may be of any size, and so may differences


def test_two_experts_for_each_prompt_are_two_experts():
    document = DEAR | {"top_k": 2}
    twice = ROUTED | {"selected": ["c"], "objective": "4/10", "upper_bound": "10"}
    verdict = check(document, twice | {"assignment": {"x": [["c", "2"]]}})
    assert "shares must be at most 1, and 2 together" in verdict.reason
    verdict = check(document, twice | {"assignment": {"x": [["c", "1"]]}, "objective": "2/10"})
    assert verdict.holds, verdict


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        (None, "assignment must be an object"),
        ({"x": [["b", "1"]]}, "is worth 0.9, not objective 1.35"),
        ({"x": [["b", "1"]], "y": [["c", "3/5"]]}, "0.04 J more than the budget"),
        ({"x": [["b", "1"]], "z": [["c", "1/2"]]}, "'z' is no prompt"),
        ({"x": [["a", "1"]]}, "an expert is not selected"),
        ({"x": [["b", "1"], ["c", "1/9"]]}, "shares must be at most 1, and 1 together"),
        ({"x": [["b", "1/2"], ["b", "1/2"]]}, "named twice"),
        ({"x": [["b", 1]]}, "a share must be written"),
        ({"x": [["b"]]}, "must be a list of"),
        ({"x": "b"}, "must be a list"),
    ],
)
def test_a_routing_that_is_not_so_is_refused(assignment, reason):
    verdict = check(DEAR, ROUTED | {"assignment": assignment})
    assert not verdict.holds
    assert reason in verdict.reason


# Size, depth and nonsense.


def test_a_tree_may_be_as_deep_as_there_are_experts():
    count = 3000
    document = {
        "experts": [{"id": f"e{i}", "energy_j": 1} for i in range(count)],
        "prompts": [{"id": "p"}],
        "quality": [[1] * count],
        "budgets": {"energy_j": count},
    }
    made = proved(
        selected=["e0"],
        objective="1",
        upper_bound="1",
        tree=[{"split": f"e{i}"} for i in range(count)] + [{"leaf": 0}] * (count + 1),
        points=[{"u": [[10]], "prices": {}}],
    )
    verdict = check(document, made)
    assert verdict.holds, verdict
    assert verdict.parts == count + 1
    assert "and 2980 more" in check(document, made | {"tree": made["tree"][:count]}).path


@pytest.mark.parametrize("document", [small(), small(quality=[[0] * 3] * 2), DEAR])
@pytest.mark.parametrize("unit", ["1/" + "9" * 290, "9" * 290, "1/1"])
@pytest.mark.parametrize("price", ["1/" + "7" * 290, "7" * 290, "0"])
@pytest.mark.parametrize("multiple", [0, 2**63 - 1])
def test_absurd_sizes_are_added_exactly(document, unit, price, multiple):
    """What is left of a huge price or u is no profit at all; with none, all of the values."""
    at = {"u": [[multiple, multiple]], "prices": {"energy_j": price}}
    limit = Fraction(str(document["budgets"]["energy_j"]))
    least = 2 * multiple * Fraction(unit) + Fraction(price) * limit
    made = ROUTED | {"unit": unit, "points": [at], "tree": [{"leaf": 0}]}
    made |= {"selected": [], "assignment": {}, "objective": "0"}
    if least < 10**299:
        most = least + 4  # more than all experts are worth
        assert check(document, made | {"upper_bound": str(int(most) + 1)}).holds
    if least >= 1:
        assert not check(document, made | {"upper_bound": str(int(least) - 1)}).holds


def test_nesting_without_end_is_refused():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    for name in PROVED:
        if name not in ("format", "points"):
            assert not check(small(), proved(**{name: deep})).holds
    assert not check(small(), proved(points=[{"u": [deep]}])).holds


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["a", "b", "1/3", "0", "all", "9" * 400, "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["leaf", "split", "fix", "in", "out", "u", "prices", "point"]), inner
        )
    ),
    max_leaves=8,
)


@settings(max_examples=300)
@given(data=st.data(), garbage=anything)
def test_garbage_anywhere_is_a_verdict_and_never_proves_too_much(data, garbage):
    document, made = data.draw(st.sampled_from([(small(), proved()), (DEAR, ROUTED)]))
    made = copy.deepcopy(made)
    places = []
    todo = [made]
    while todo:
        holder = todo.pop()
        keys = holder if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            places.append((holder, key))
            if isinstance(holder[key], dict | list):
                todo.append(holder[key])
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = garbage
    verdict = check(document, made)
    if verdict.holds:
        best = Fraction(17, 10) if document is not DEAR else Fraction(27, 20)
        assert Fraction(verdict.upper_bound) >= best


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"experts": None}, "experts must be a list of objects"),
        ({"experts": [1, 2, 3]}, "experts must be a list of objects"),
        ({"prompts": [{"id": "x"}, {"id": "x"}]}, "prompts must have ids"),
        ({"prompts": [{"id": "x"}, {"id": 7}]}, "prompts must have ids"),
        ({"prompts": [{"id": "x"}, {"id": "y", "weight": "1"}]}, "weight must be 2 numbers"),
        ({"quality": None}, "quality must be 2 × 3 numbers"),
        ({"quality": [[1, 2, 3]]}, "quality must be 2 × 3 numbers"),
        ({"quality": [[1, 2, 3], [1, 2]]}, "quality must be 2 × 3 numbers"),
        ({"quality": [["1", "2", "3"]] * 2}, "quality must be 2 × 3 numbers"),
        ({"quality": [[1, 2, -3.0]] * 2}, "from 0 to 2^53"),
        ({"quality": [[1, 2, float("nan")]] * 2}, "from 0 to 2^53"),
        ({"quality": [[1, 2, float("inf")]] * 2}, "from 0 to 2^53"),
        ({"quality": [[1, 2, 2**53 + 1]] * 2}, "from 0 to 2^53"),
        ({"quality": [[1, 2, 10**400]] * 2}, "quality must be 2 × 3 numbers"),
        ({"quality": [[1, 2.5, 10**400]] * 2}, "quality must be 2 × 3 numbers"),
        ({"budgets": 3}, "budgets must be an object"),
        ({"budgets": {"energy_j": "1"}}, "energy_j of all experts and its budget"),
        ({"budgets": {"resources": {"memory": 1}}}, "resources.memory of all experts"),
        ({"budgets": {"latency_ms": {"chat": 1}}}, "latency_ms.chat of all experts"),
        ({"top_k": 0}, "top_k"),
        ({"top_k": 2, "rank_weights": [1]}, "rank_weights must be 2 numbers"),
        ({"rank_weights": [0.5, 1]}, "rank_weights must not increase"),
        ({"latency_mode": "Serial"}, "latency_mode must be one of parallel, serial"),
        ({"ineligible": []}, "ineligible must be one of lenient, strict"),
        (
            {"rank_weights": [1, 0.5], "query_energy_j": [[0, 0, 0]] * 2},
            "query_energy_j needs rank_weights",
        ),
    ],
)
def test_a_document_that_is_no_problem(changed, fault):
    with pytest.raises(ProblemError) as raised:
        check(small(**changed), proved())
    assert fault in raised.value.faults[0]


def test_it_knows_nothing_of_the_solver():
    """Of this package it imports itself and the errors, else only numpy and the library."""
    folder = Path(check_module.__file__).parent
    own = sorted(folder.glob("check*.py"))
    assert [path.stem for path in own] == [
        "check",
        "check_bounds",
        "check_claims",
        "check_document",
    ]
    names = set()
    for path in own:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0
                names.add(node.module)
            elif isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
    ours = {name for name in names if name.startswith("updraft")}
    assert ours <= {
        "updraft.errors",
        *(f"updraft.optimizer.certificates.{path.stem}" for path in own),
    }
    others = {name.partition(".")[0] for name in names - ours}
    assert others <= {*sys.stdlib_module_names, "numpy"}
