import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.benchmarks.collab.plan import NAIVE, NEAR, ROWS, TIERS, parse_link
from updraft.benchmarks.collab.run import over
from updraft.benchmarks.collab.wire import Link
from updraft.edge.request import GenerationRequest
from updraft.errors import RequestError


@pytest.mark.parametrize("row", [row for row in ROWS if row != NAIVE], ids=lambda row: row.name)
def test_every_row_is_a_request_that_the_engine_knows(row):
    assert GenerationRequest("x", **row.choices()).mode == row.mode


def test_rows_have_names_of_their_own():
    assert len({row.name for row in ROWS}) == len(ROWS)


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(0, 99))
def test_a_link_is_parsed(round_trip_ms, mbit_s, percent):
    expected = Link(round_trip_ms, mbit_s, percent / 100)
    assert parse_link(f"{round_trip_ms}/{mbit_s}/{percent}") == expected


@pytest.mark.parametrize("text", ["", "50", "50/0", "-1/5", "50/20/100", "50/20/1/1", "a/b"])
def test_what_is_no_link_is_refused(text):
    with pytest.raises(RequestError, match="link"):
        parse_link(text)


def test_other_links_take_the_place_of_the_tiers():
    elsewhere = Link(7, 7)
    tier = over(TIERS["default"], [NEAR, elsewhere])
    assert [leg.link for leg in tier.legs] == [NEAR, elsewhere]
    assert tier.legs[0] == TIERS["default"].legs[0]
