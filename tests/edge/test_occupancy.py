"""Who had a device to itself."""

from updraft.edge.occupancy import Occupancy


def test_those_who_meet_are_not_alone():
    occupancy = Occupancy()
    first = occupancy.enter()
    second = occupancy.enter()
    second.end()
    first.end()
    assert not first.alone
    assert not second.alone


def test_those_who_follow_each_other_are_alone():
    occupancy = Occupancy()
    first = occupancy.enter()
    first.end()
    first.end()
    second = occupancy.enter()
    second.end()
    assert first.alone
    assert second.alone
