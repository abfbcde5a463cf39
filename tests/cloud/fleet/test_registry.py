"""Who is in the fleet: joins, beats, silence, and names that two nodes want."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.cloud.fleet.registry import Registry
from updraft.errors import LinkBusy, ProtocolError

BEAT_S = 0.4  # silent for three of them is dead
LOOK_S = 0.1


@pytest.fixture
def registry():
    return Registry(max_nodes=3)


def look_until(registry, start, end):
    """Look as often as a coordinator does; returns the names of the dead."""
    steps = round((end - start) / LOOK_S)
    found = [registry.silent(start + LOOK_S * step) for step in range(steps + 1)]
    return {member.name for members in found for member in members}


def join(registry, record, number, interval_s=BEAT_S):
    registry.join(record, number, 0.0)
    registry.get(record.node).interval_s = interval_s


def test_a_node_that_joins_is_there(registry, capability):
    assert registry.join(capability("a"), 1, 0.0) is None
    assert [member.name for member in registry] == ["a"]
    assert registry.get("a").stream == 1
    assert registry.get("b") is None


def test_a_node_that_comes_back_replaces_itself(registry, capability):
    registry.join(capability("a", revision=5), 1, 0.0)
    before = registry.get("a")
    assert registry.join(capability("a", revision=5), 2, 1.0) is before
    assert registry.get("a").stream == 2
    assert not registry.leave(before), "the end of the old stream takes nobody else away"
    assert len(registry) == 1


def test_an_older_record_is_refused_while_the_newer_lives(registry, capability):
    registry.join(capability("a", revision=5), 1, 0.0)
    with pytest.raises(ProtocolError, match="revision 5, and revision 4 came"):
        registry.join(capability("a", revision=4), 2, 0.1)
    assert registry.get("a").stream == 1
    registry.leave(registry.get("a"))
    registry.join(capability("a", revision=4), 3, 0.2)
    assert registry.get("a").stream == 3


def test_a_full_fleet_takes_nobody_new(registry, capability):
    for number, name in enumerate("abc"):
        registry.join(capability(name), number, 0.0)
    with pytest.raises(LinkBusy, match="3 nodes are in the fleet"):
        registry.join(capability("d"), 9, 0.0)
    registry.join(capability("c", revision=2), 10, 0.0)  # who is in may come back
    registry.leave(registry.get("b"))
    registry.join(capability("d"), 11, 0.0)
    assert {member.name for member in registry} == {"a", "c", "d"}


def test_a_record_changes_only_forward(registry, capability):
    registry.join(capability("a", revision=5), 1, 0.0)
    node = registry.get("a")
    registry.revise(node, capability("a", revision=6, concurrency=4))
    assert node.capability.concurrency == 4
    for revision in (6, 5):
        with pytest.raises(ProtocolError, match=f"revision {revision} came after 6"):
            registry.revise(node, capability("a", revision=revision))
    with pytest.raises(ProtocolError, match="a node keeps its name"):
        registry.revise(node, capability("b", revision=9))


def test_silence_is_death_and_speech_is_life(registry, capability):
    for number, name in enumerate("ab"):
        join(registry, capability(name), number)
    assert look_until(registry, 0.0, 1.1) == set()
    registry.get("a").heard = 1.1
    assert look_until(registry, 1.2, 1.5) == {"b"}


def test_each_node_is_given_three_beats_of_its_own(registry, capability):
    join(registry, capability("quick"), 1, 0.2)
    join(registry, capability("slow"), 2, 0.8)
    assert look_until(registry, 0.0, 0.5) == set()
    assert look_until(registry, 0.6, 0.8) == {"quick"}
    registry.leave(registry.get("quick"))
    assert look_until(registry, 0.9, 2.3) == set()
    assert look_until(registry, 2.4, 2.6) == {"slow"}


def test_who_was_not_told_when_to_beat_is_not_silent(registry, capability):
    registry.join(capability("a"), 1, 0.0)
    assert look_until(registry, 0.0, 60.0) == set()


def test_time_in_which_the_coordinator_stood_still_is_nobodys_silence(registry, capability):
    join(registry, capability("a"), 1)
    assert look_until(registry, 0.0, 0.5) == set()
    assert look_until(registry, 60.0, 60.5) == set(), "it had half a second of silence, and no 60"
    assert look_until(registry, 60.6, 61.5) == {"a"}


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.booleans()), max_size=40))
def test_there_is_one_node_of_a_name_and_never_too_many(capability, steps):
    registry, live = Registry(3), {}
    for stream, (name, revision, leaves) in enumerate(steps):
        if leaves:
            if name in live:
                assert registry.leave(live.pop(name))
            continue
        known = live[name].capability.revision if name in live else None
        try:
            registry.join(capability(name, revision=revision), stream, 0.0)
        except ProtocolError:
            assert known is not None
            assert revision < known
        except LinkBusy:
            assert known is None
            assert len(live) == 3
        else:
            assert known is None or revision >= known
            live[name] = registry.get(name)
        assert {member.name: member for member in registry} == live
