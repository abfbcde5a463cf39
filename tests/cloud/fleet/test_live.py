"""The plan is made anew whenever there is a cause, and no more often."""

import asyncio
import threading
from dataclasses import replace

import numpy as np
import pytest

from updraft.cloud.fleet.drift import Basis
from updraft.cloud.fleet.limits import FleetBudget
from updraft.cloud.fleet.live import LivePlan
from updraft.cloud.fleet.records import Plan
from updraft.cloud.fleet.traffic import Traffic

NO_TRAFFIC = Traffic((), np.empty((0, 0)), np.empty(0), (), np.empty(0), np.empty(0))


class Planner:
    """Keeps every node on; can be held up, and can fail."""

    def __init__(self):
        self.causes, self.fails = [], False
        self.free, self.busy = threading.Event(), threading.Event()
        self.free.set()

    def plan(self, nodes, traffic, budget, previous, cause):
        self.causes.append(cause)
        self.busy.set()
        assert self.free.wait(30)
        if self.fails:
            raise RuntimeError("no plan today")
        version = previous.version + 1 if previous else 1
        return Plan(version, frozenset(node.node for node in nodes))


@pytest.fixture
def planner():
    return Planner()


def live(planner, nodes, work, budget=None):
    """Run `work(plan, published, budget)` beside a plan that is kept alive."""
    budget = budget or [FleetBudget()]

    async def run():
        published = asyncio.Queue()
        plan = LivePlan(
            planner,
            lambda: Basis(tuple(nodes), NO_TRAFFIC, budget[0]),
            lambda plan, _: published.put_nowait(plan),
            0.02,
        )
        keeping = asyncio.ensure_future(plan.run())
        try:
            await work(plan, published)
        finally:
            planner.free.set()
            keeping.cancel()

    asyncio.run(run())


def test_many_joins_make_one_plan(planner, capability):
    nodes = []

    async def work(plan, published):
        for number in range(50):
            nodes.append(capability(f"n{number}"))
            plan.note()
        assert len((await published.get()).selected) == 50
        assert len(planner.causes) == 1
        assert "joined" in planner.causes[0]

    live(planner, nodes, work)


def test_what_happens_while_planning_makes_another_plan(planner, capability):
    nodes = [capability("a")]

    async def work(plan, published):
        planner.free.clear()
        plan.note()
        assert await asyncio.to_thread(planner.busy.wait, 30)
        nodes.append(capability("b"))
        plan.note()
        planner.free.set()
        assert (await published.get()).selected == {"a"}
        assert (await published.get()).selected == {"a", "b"}
        assert planner.causes[1] == "b joined"

    live(planner, nodes, work)


def test_the_loop_is_free_while_a_plan_is_made(planner, capability):
    async def work(plan, published):
        planner.free.clear()
        plan.note()
        assert await asyncio.to_thread(planner.busy.wait, 30)
        assert published.empty()

    live(planner, [capability("a")], work)


def test_when_planning_fails_who_was_on_stays_on(planner, capability):
    nodes = [capability(name) for name in "abc"]

    async def work(plan, published):
        plan.note()
        await published.get()
        planner.fails = True
        del nodes[0]
        nodes.append(capability("d"))
        plan.note()
        kept = await published.get()
        assert (kept.version, kept.selected) == (2, {"b", "c"})
        assert "planning failed" in kept.reason
        nodes[:] = [capability("e")]
        plan.note()
        assert (await published.get()).selected == {"e"}

    live(planner, nodes, work)


def test_only_drift_asks_for_a_plan_when_nothing_is_noted(planner, capability):
    nodes, budget = [capability("a")], [FleetBudget()]

    async def work(plan, published):
        plan.check_drift()  # there is no plan yet that could have drifted
        plan.note()
        await published.get()
        plan.check_drift()
        await asyncio.sleep(0.1)
        assert published.empty()
        nodes[0] = replace(nodes[0], per_token_ms=9.0)
        plan.check_drift()
        await published.get()
        budget[0] = FleetBudget(power_w=5.0)
        plan.check_drift()
        await published.get()
        assert len(planner.causes) == 3

    live(planner, nodes, work, budget)
