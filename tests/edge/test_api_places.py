"""Places: so many at a time, in the order of coming, and never lost."""

import asyncio

import pytest

from updraft.edge.api.places import Places
from updraft.errors import Busy, ShuttingDown


def run(work):
    return asyncio.run(asyncio.wait_for(work, 60))


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


def test_places_are_given_in_the_order_of_coming():
    async def work():
        places, order = Places(2, 10, 60), []

        async def one(number):
            place = await places.take()
            order.append(number)
            await settle()
            place.free()
            place.free()  # a second time gives nothing back

        await asyncio.gather(*(one(number) for number in range(8)))
        assert order == list(range(8))
        assert (places.taken, places.waiting) == (0, 0)

    run(work())


def test_who_finds_the_queue_full_is_refused_with_a_time_to_come_again():
    async def work():
        places = Places(1, 1, 60)
        place = await places.take()
        waiting = asyncio.ensure_future(places.take())
        await settle()
        with pytest.raises(Busy, match="1 requests are answered and 1 wait") as refused:
            await places.take()
        assert refused.value.retry_after_s >= 1
        place.free()
        (await waiting).free()
        assert places.taken == 0

    run(work())


def test_who_waits_too_long_is_refused_and_takes_nobodys_turn():
    async def work():
        places = Places(1, 5, 0.01)
        place = await places.take()
        with pytest.raises(Busy, match=r"within 0\.01 s"):
            await places.take()
        assert places.waiting == 0
        place.free()
        (await places.take()).free()

    run(work())


def test_who_leaves_the_queue_loses_no_place_to_others():
    async def work():
        places = Places(1, 5, 60)
        place = await places.take()
        first, second = (asyncio.ensure_future(places.take()) for _ in range(2))
        await settle()
        first.cancel()
        await settle()
        assert places.waiting == 1
        place.free()
        second.cancel()  # in the moment in which it got the place
        await settle()
        assert (places.taken, places.waiting) == (0, 0)

    run(work())


def test_who_waits_when_it_closes_is_refused_and_so_is_who_comes():
    async def work():
        places = Places(1, 5, 60)
        place = await places.take()
        waiting = asyncio.ensure_future(places.take())
        await settle()
        places.close()
        for late in (waiting, places.take()):
            with pytest.raises(ShuttingDown):
                await late
        place.free()
        assert places.taken == 0

    run(work())
