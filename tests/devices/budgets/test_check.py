"""Verdicts before roll-out: right by the figures, and never worse for a greater budget."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.budgets.budget import LINES, Budget, Line, Origin
from updraft.devices.budgets.check import check, expected, keeps_all
from updraft.devices.budgets.expectation import Coordinator, Outlook, Shape
from updraft.devices.budgets.options import Demand, Options

_ORIGIN = Origin("b.toml", 3, "device.a")
_FAR = Coordinator(20, 1e6, token_ms=5, position_ms=0.5)
_RANK = ["met", "change", "missed"]


@pytest.fixture(scope="module")
def options(board, workload, small):
    def make(requests_per_day=1000, mode="full", bundles=("large",), coordinator=_FAR):
        outlooks = {
            name: Outlook(board, found, {2: 0.5, 3: 0.7}, coordinator)
            for name, found in (("large", workload), ("small", small))
            if name in bundles
        }
        return Options(outlooks, Demand(Shape(100, 50), requests_per_day), mode)

    return make


def budget(name, limit, on_exhausted="refuse"):
    return Budget("a", {name: Line(name, limit, on_exhausted, _ORIGIN, None)})


def verdict(options, name, limit, on_exhausted="refuse"):
    found = {v.line.name: v for v in check(budget(name, limit, on_exhausted), options)}
    return found[name]


def kinds(verdict):
    return [option.kind for option in verdict.remedies]


def asked(options, name):
    value = expected(budget(name, 1.0).lines[name], options.asked, options.demand)
    assert value is not None
    return value.value


@pytest.mark.parametrize("name", LINES)
def test_a_line_is_met_up_to_what_is_expected_and_missed_below(options, name):
    lossless = options(mode="lossless")
    value = asked(lossless, name)
    assert value > 0
    assert verdict(lossless, name, value).state == "met"
    assert verdict(lossless, name, 0.99 * value).state in ("change", "missed")


def test_what_is_expected_of_a_day_is_what_its_answers_take(options):
    found = options(mode="lossless")
    per_answer = found.asked.expected
    assert asked(found, "energy_per_request") == per_answer.energy_j.value
    assert asked(found, "energy_per_day") == 1000 * per_answer.energy_j.value
    assert asked(found, "uplink_per_day") == 1000 * per_answer.uplink_bytes
    assert asked(found, "cloud_tokens_per_hour") == pytest.approx(
        1000 * per_answer.cloud_tokens / 24
    )


def test_without_the_number_of_requests_a_day_is_not_known_unless_it_takes_nothing(options):
    found = options(requests_per_day=None)
    assert verdict(found, "energy_per_day", 1.0).state == "unknown"
    assert verdict(found, "energy_per_day", 1.0).remedies == ()
    assert verdict(found, "uplink_per_day", 1.0).state == "met"
    lossless = options(requests_per_day=None, mode="lossless")
    assert verdict(lossless, "uplink_per_day", 1.0).state == "unknown"


def test_each_kind_of_change_that_would_do_is_named_small_ones_first(options):
    found = options(bundles=("large", "small"))
    value = asked(found, "energy_per_request")
    near = verdict(found, "energy_per_request", 0.9 * value)
    assert near.state == "change"
    assert kinds(near) == ["power mode", "exits", "mode", "mode", "bundle"]
    power_mode, exits, *modes, bundle = near.remedies
    assert power_mode.way.power_mode.name == "slow"
    assert exits.way.exit_layer == 3
    assert {option.way.mode for option in modes} == {"lossless", "cloud"}
    assert bundle.bundle == "small"


def test_the_deepest_exit_that_is_enough_is_named(options):
    found = options(coordinator=None)
    value = asked(found, "per_token")
    assert verdict(found, "per_token", 0.4 * value).remedies[-1].way.exit_layer == 3
    assert verdict(found, "per_token", 0.3 * value).remedies[-1].way.exit_layer == 2


def test_several_changes_are_named_only_where_no_single_one_does(options):
    found = options(coordinator=None)
    cheapest = min(option.expected.energy_j.value for option in found.all)
    [several] = verdict(found, "energy_per_request", 1.001 * cheapest).remedies
    assert several.kind == "several"
    assert (several.way.exit_layer, several.way.power_mode.name) == (2, "slowest")
    missed = verdict(found, "energy_per_request", 0.999 * cheapest)
    assert (missed.state, missed.remedies) == ("missed", ())


def test_how_much_a_limit_is_enough_for_is_said(options):
    found = options()
    value = asked(found, "energy_per_day")
    assert verdict(found, "energy_per_day", value / 4).enough_for == pytest.approx(0.25)
    assert verdict(found, "energy_per_day", value).enough_for is None
    assert verdict(found, "per_token", 0.1).enough_for is None


def test_an_average_power_can_be_kept_by_pauses_where_requests_may_wait(options):
    few = options(requests_per_day=10)
    # 4 W idle, 12 W busy.
    waiting = verdict(few, "average_power", 8.0, "queue")
    assert (waiting.state, waiting.enough_for) == ("met", 0.5)
    assert verdict(few, "average_power", 8.0, "refuse").state == "change"
    many = options(requests_per_day=1e6)
    assert verdict(many, "average_power", 8.0, "queue").state == "change"
    for_idle = verdict(few, "average_power", 3.9, "queue")
    assert (for_idle.state, for_idle.enough_for) == ("missed", 0.0)


def test_whether_the_verdict_is_sure_depends_on_the_whole_interval(options):
    found = options()
    value = found.asked.expected.token_ms
    assert value.low < value.value < value.high
    for limit, state, sure in [
        (1.001 * value.high, "met", True),
        (1.001 * value.value, "met", False),
        (0.999 * value.value, "change", False),
        (0.999 * value.low, "change", True),
    ]:
        judged = verdict(found, "per_token", limit)
        assert (judged.state, judged.is_sure) == (state, sure)


def test_the_board_limits_memory_where_the_budget_does_not(board, workload, small, options):
    [memory] = check(Budget("a", {}), options())
    assert (memory.line.name, memory.line.limit) == ("memory", board.memory_bytes)
    tight = board.model_copy(update={"memory_bytes": 1 << 30})
    outlooks = {w.name: Outlook(tight, w, {}) for w in (workload, small)}
    crowded = Options(outlooks, Demand(Shape(100, 50)))
    [memory] = check(Budget("a", {}), crowded)
    assert (memory.state, kinds(memory)) == ("change", ["bundle"])
    # What does not fit is no remedy for anything else.
    slow = verdict(crowded, "average_power", 9.0)
    assert {option.bundle for option in slow.remedies} == {"small"}


def test_all_lines_at_once_are_kept_by_one_way_or_by_none(options):
    found = options()
    assert keeps_all(Budget("a", {}), found) == found.asked
    energy = 0.9 * asked(found, "energy_per_request")
    both = Budget(
        "a",
        {
            **budget("energy_per_request", energy).lines,
            **budget("cloud_tokens_per_hour", 1.0).lines,
        },
    )
    best = keeps_all(both, found)
    assert best is not None
    # Best in quality without the cloud: all layers, in the power mode that takes less.
    assert (best.way.mode, best.way.power_mode.name) == ("full", "slow")
    none = Budget("a", {**both.lines, **budget("average_power", 1.0).lines})
    assert keeps_all(none, found) is None


def test_a_mode_that_cannot_be_predicted_is_refused_with_those_that_can(options):
    with pytest.raises(ValueError, match=r"mode 'ids' cannot .*; choose from full, standalone"):
        options(mode="ids", coordinator=None)


@pytest.fixture(scope="module")
def many_options(options):
    return [
        options(requests_per_day=rate, mode=mode, bundles=("large", "small"))
        for rate in (None, 100, 1e6)
        for mode in ("full", "lossless", "cloud", "standalone")
    ]


@given(
    st.integers(0, 11),
    st.sampled_from(LINES),
    st.floats(-6, 12),
    st.floats(0, 4),
    st.sampled_from(["refuse", "queue", "standalone", "shallower_exits"]),
)
def test_more_budget_never_makes_a_verdict_worse(many_options, which, name, log, more, action):
    found, limit = many_options[which], 10**log
    tight = verdict(found, name, limit, action)
    loose = verdict(found, name, limit * 10**more, action)
    if tight.state == "unknown":
        assert loose.state == "unknown"
    else:
        assert _RANK.index(loose.state) <= _RANK.index(tight.state)
    if tight.state == loose.state == "change":
        assert {option.kind for option in tight.remedies} - {"several"} <= set(kinds(loose))
    if keeps_all(budget(name, limit, action), found) is not None:
        assert keeps_all(budget(name, limit * 10**more, action), found) is not None


@given(st.integers(0, 11), st.sampled_from(LINES), st.floats(-6, 12))
def test_every_remedy_keeps_the_line_and_a_missed_line_is_kept_by_nothing(
    many_options, which, name, log
):
    found = many_options[which]
    judged = verdict(found, name, 10**log)
    line = judged.line
    for option in judged.remedies:
        value = expected(line, option, found.demand)
        assert value is not None
        assert value.value <= line.limit
        assert option != found.asked
    if judged.state == "missed":
        for option in found.all:
            value = expected(line, option, found.demand)
            assert value is None or value.value > line.limit


def test_lines_come_in_one_order_whatever_the_budget(options):
    lines = {name: Line(name, 1.0, "refuse", _ORIGIN) for name in LINES}
    turned = replace(Budget("a", lines), lines=dict(reversed(lines.items())))
    for found in (Budget("a", lines), turned):
        assert [v.line.name for v in check(found, options())] == list(LINES)
