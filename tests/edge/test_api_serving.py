"""A request under way: what becomes of its thread and its place when nobody reads any more."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from updraft.edge.api.places import Places
from updraft.edge.api.serving import Order, Serving
from updraft.edge.request import GeneratedToken, GenerationRequest, GenerationResult
from updraft.errors import UpdraftError


class Backlog:
    """A generation that gives out what it has kept back when it is cancelled, as repairs do."""

    prompt_tokens = 1
    result = GenerationResult("standalone", "fp32")

    def cancel(self):
        pass

    def settled(self):
        for position in range(1000):
            yield GeneratedToken(position, 0, "a", "exit_2", 1.0, False)


async def served(start, work):
    """Serve one order by a function that starts a generation; returns the places."""
    with ThreadPoolExecutor(1) as threads:
        places = Places(1, 0, 1.0)
        order = Order(GenerationRequest("a", "standalone"), [0], False, False)
        engine = SimpleNamespace(start=start)
        serving = Serving([order], await places.take(), engine, None, threads)
        await work(serving)
        for _ in range(500):
            if not places.taken:
                break
            await asyncio.sleep(0.01)
        serving.cancel()
    return places


def test_a_backlog_that_nobody_reads_holds_no_place():
    async def leave(serving):
        await serving.begin()
        serving.cancel()

    places = asyncio.run(asyncio.wait_for(served(lambda *_: Backlog(), leave), 30))
    assert places.taken == 0


def test_an_error_of_ours_is_an_answer():
    class Broken:
        async def admit(self, *_, **__):
            raise OSError("no disk")

    async def run():
        with ThreadPoolExecutor(1) as threads:
            places = Places(1, 0, 1.0)
            order = Order(GenerationRequest("a", "standalone"), [0], False, False)
            serving = Serving([order], await places.take(), None, Broken(), threads)
            with pytest.raises(UpdraftError, match="the agent failed: OSError"):
                await serving.begin()
            return places.taken

    assert asyncio.run(asyncio.wait_for(run(), 30)) == 0
