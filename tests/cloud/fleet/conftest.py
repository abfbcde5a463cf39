"""Nodes of a fleet as plain values."""

import pytest

from updraft.cloud.fleet.records import Capability
from updraft.cloud.fleet.registry import Beat, Member

READY = Beat(ready=True)


@pytest.fixture(scope="session")
def capability():
    """Return a function that makes a record: of a sound node, unless told otherwise."""

    def make(node="a", expert="python", **changes):
        sound = {
            "version": f"version-of-{expert}",
            "revision": 1,
            "device": "x86",
            "quality": {"code": 0.5},
            "prompt_tokens": 32,
            "first_token_ms": 10.0,
            "per_token_ms": 2.0,
            "prompt_j": 1.0,
            "per_token_j": 0.1,
            "standby_w": 1.0,
            "context_length": 512,
            "max_tokens": 256,
            "concurrency": 1,
        }
        return Capability(node, expert, **(sound | changes))

    return make


@pytest.fixture(scope="session")
def member(capability):
    """Return a function that makes a node that is ready, with a record like `capability`'s."""

    def make(node="a", expert="python", *, beat=READY, stream=None, working=0, **changes):
        number = stream if stream is not None else hash(node)
        record = capability(node, expert, **changes)
        return Member(record, number, 0.0, beat, working)

    return make
