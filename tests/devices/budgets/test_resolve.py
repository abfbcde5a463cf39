"""Inheritance: the nearest wins, line by line."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.budgets.budget import LINES, Line, Origin
from updraft.devices.budgets.resolve import Lifted, limits, lineage, loops, nearest

_NAMES = st.sampled_from(["a", "b", "c", "d"])
_GROUPS = st.dictionaries(_NAMES, st.none() | _NAMES, max_size=4)


@st.composite
def _scopes(draw):
    """Up to four scopes; every line says by its origin in which of them it stands."""
    scopes = []
    for number in range(draw(st.integers(0, 4))):
        origin = Origin("f", number, f"group.{number}")
        scopes.append(
            {
                name: Line(name, draw(st.integers(1, 9)), "refuse", origin)
                if draw(st.booleans())
                else Lifted(origin)
                for name in draw(st.sets(st.sampled_from(LINES)))
            }
        )
    return scopes


@given(_scopes())
def test_the_nearest_scope_that_says_anything_of_a_line_wins(scopes):
    found = nearest(scopes)
    for name in LINES:
        says = [scope[name] for scope in scopes if name in scope]
        assert found.get(name) == (says[0] if says else None)


@given(_scopes())
def test_resolving_what_is_resolved_changes_nothing(scopes):
    found = nearest(scopes)
    assert nearest([found]) == found
    assert nearest([found, *scopes]) == found
    assert nearest([*scopes, *scopes]) == found


@given(_scopes())
def test_resolving_part_by_part_comes_to_the_same(scopes):
    for cut in range(len(scopes) + 1):
        assert nearest([nearest(scopes[:cut]), nearest(scopes[cut:])]) == nearest(scopes)


@given(_scopes())
def test_lifted_lines_limit_nothing(scopes):
    found = nearest(scopes)
    assert limits(found) == {n: line for n, line in found.items() if isinstance(line, Line)}


@given(_GROUPS, st.none() | _NAMES)
def test_a_lineage_follows_what_each_group_names_and_ends(groups, start):
    found = lineage(start, groups)
    assert len(found) == len(set(found))
    assert all(name in groups for name in found)
    assert found[:1] == ([start] if start in groups else [])
    for one, next_ in pairwise(found):
        assert groups[one] == next_
    if found and groups[found[-1]] in groups:
        assert groups[found[-1]] in found


@given(_GROUPS)
def test_a_group_is_in_one_loop_if_it_comes_back_to_itself_and_else_in_none(groups):
    found = [set(loop) for loop in loops(groups)]
    for name in groups:
        ahead, seen = groups[name], 0
        while ahead in groups and ahead != name and seen < len(groups):
            ahead, seen = groups[ahead], seen + 1
        assert sum(name in loop for loop in found) == (ahead == name)
