"""Frames for a future that is foreseen: kept, within limits, until it is the present."""

import pytest

from updraft.cloud.foreseen import Foreseen, Frame, Replacement

LIMIT = 8


@pytest.fixture
def foreseen():
    return Foreseen(LIMIT)


def frame(position, count=1):
    return Frame(position, count, b"", (), (), False)


def test_frames_are_kept_by_what_would_make_them_hold(foreseen):
    for token in range(2):
        for position in range(2):
            foreseen.keep(Replacement(0, token), frame(position))
            foreseen.keep(Replacement(0, token), frame(position))
    assert foreseen.take(Replacement(0, 1)) == [frame(0), frame(1)]
    assert not foreseen.frames
    assert foreseen.take(Replacement(0, 0)) == []


def test_what_there_is_no_room_for_leaves_no_trace(foreseen):
    for token in range(1000):
        foreseen.keep(Replacement(0, token), frame(1, count=3))
    assert [f.count for f in foreseen.frames] == [3, 3]
    assert len(foreseen._frames) == 2
