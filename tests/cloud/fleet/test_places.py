"""Places at nodes, and who waits for one."""

import asyncio

import pytest

from updraft.cloud.fleet.places import Places
from updraft.cloud.fleet.records import Plan
from updraft.cloud.fleet.registry import Beat, Registry
from updraft.cloud.fleet.router import Ask
from updraft.errors import LinkBusy, RequestError

READY = Beat(ready=True)


@pytest.fixture
def fleet(capability):
    """Return a function that makes places at nodes, each with room for one answer."""

    def make(*names, on=None, ready=True, max_waiting=8, wait_timeout_s=30.0, **changes):
        registry = Registry(100)
        for number, name in enumerate(names):
            registry.join(capability(name, **changes), number, 0.0)
            registry.get(name).beat = Beat(ready=ready)
        places = Places(registry, max_waiting, wait_timeout_s)
        places.plan = Plan(1, frozenset(names if on is None else on))
        return registry, places

    return make


def ask(**choices):
    return Ask(**({"prompt_tokens": 10, "max_tokens": 5} | choices))


async def started(*takes):
    """Start to take places and let all of them come as far as they can."""
    tasks = [asyncio.ensure_future(take) for take in takes]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


def test_places_are_given_until_there_are_none_then_in_turn(fleet):
    async def run():
        _, places = fleet("a", "b")
        first, second = await places.take(ask()), await places.take(ask())
        assert {first.name, second.name} == {"a", "b"}
        waiting = await started(places.take(ask()), places.take(ask()))
        assert places.waiting == 2
        places.give_back(second)
        assert await waiting[0] is second
        assert not waiting[1].done()
        places.give_back(first)
        assert await waiting[1] is first
        assert (first.working, second.working, places.waiting) == (1, 1, 0)

    asyncio.run(run())


def test_who_gives_up_takes_no_place_away(fleet):
    async def run():
        _, places = fleet("a")
        node = await places.take(ask())
        quits, stays = await started(places.take(ask()), places.take(ask()))
        quits.cancel()
        await asyncio.sleep(0)
        places.give_back(node)
        # Even one that is cancelled just as it gets a place.
        stays.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stays
        assert node.working == 0
        assert await places.take(ask()) is node

    asyncio.run(run())


def test_a_node_that_gets_ready_or_is_switched_on_serves_who_waits(fleet):
    async def run():
        registry, places = fleet("a", "b", on="b", ready=False)
        waiting = await started(places.take(ask()), places.take(ask()))
        registry.get("b").beat = READY
        places.consider((registry.get("b"),))
        assert (await waiting[0]).name == "b"
        registry.get("a").beat = READY
        places.consider()
        assert places.waiting == 1
        places.plan = Plan(2, frozenset("ab"))
        places.consider()
        assert (await waiting[1]).name == "a"

    asyncio.run(run())


def test_a_place_goes_to_the_first_who_can_use_it(fleet):
    async def run():
        _, places = fleet("a")
        node = await places.take(ask())
        failed, other = await started(
            places.take(ask(failed={node.stream}), again=True), places.take(ask())
        )
        places.give_back(node)
        assert await other is node
        assert not failed.done()
        failed.cancel()

    asyncio.run(run())


def test_who_cannot_be_served_is_told_why_at_once(fleet):
    async def run():
        registry, places = fleet("a", context_length=100, max_tokens=50)
        for wrong, said in (
            (ask(max_tokens=51), "max_tokens is 51; nodes of this fleet give at most 50"),
            (ask(prompt_tokens=104), "shorten it by at least 5"),
        ):
            with pytest.raises(RequestError, match=said):
                await places.take(wrong)
        registry.get("a").beat = Beat(ready=True, exhausted=True)
        with pytest.raises(LinkBusy, match="1 out of their own budget"):
            await places.take(ask())
        registry.leave(registry.get("a"))
        with pytest.raises(LinkBusy, match="no node is in the fleet"):
            await places.take(ask())

    asyncio.run(run())


def test_who_lost_a_node_waits_for_another_though_there_is_none(fleet, capability):
    async def run():
        registry, places = fleet()
        (lost,) = await started(places.take(ask(), again=True))
        registry.join(capability("b"), 7, 0.0)
        registry.get("b").beat = READY
        places.plan = Plan(2, frozenset("b"))
        places.consider()
        assert (await lost).name == "b"

    asyncio.run(run())


def test_the_queue_is_bounded_in_length_and_time(fleet):
    async def run():
        _, places = fleet("a", max_waiting=1, wait_timeout_s=0.05)
        node = await places.take(ask())
        (waiting,) = await started(places.take(ask()))
        with pytest.raises(LinkBusy, match="1 requests wait for a node, the limit"):
            await places.take(ask())
        with pytest.raises(LinkBusy, match=r"no node became free within 0\.05 s: 1 nodes"):
            await waiting
        places.give_back(node)
        assert await places.take(ask()) is node

    asyncio.run(run())


def test_a_node_that_is_gone_gives_no_place(fleet):
    async def run():
        registry, places = fleet("a", "b", on="a")
        node = await places.take(ask())
        (waiting,) = await started(places.take(ask()))
        registry.leave(node)
        places.give_back(node)
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()

    asyncio.run(run())
