"""Changing one line of a file: nothing else in it comes out another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.budgets.budget import LINES, UNITS
from updraft.devices.budgets.edit import with_line
from updraft.devices.budgets.quantity import parse, show
from updraft.devices.budgets.read import parse_budgets

_TEXT = """# budgets of the gate
[fleet]
average_power = { limit = "20 W", window = "5 min" }  # each
uplink_per_day = { limit = "1 MB", on_exhausted = "queue" }
memory = "4 GB"

[device.left]   # by the road
energy_per_day = "20 kJ"   # a day's sun
first_token = { limit = "300 ms" , on_exhausted = "refuse" } # not later

# the other one
[device."far right"]

[device]
top.memory = "1 GB"
flat = {}
# end
"""


def change(text, *arguments):
    """Return the lines that went and those that came."""
    file = parse_budgets(text, "b.toml", {})
    changed = with_line(text, file, *arguments)
    parse_budgets(changed, "b.toml", {})
    before, after = text.split("\n"), changed.split("\n")
    kept = [row for row in before if row in after]
    assert [row for row in after if row in before] == kept
    gone = [row for row in before if row not in after]
    return gone, [row for row in after if row not in before]


@pytest.mark.parametrize(
    ("arguments", "gone", "came"),
    [
        (
            ("left", "energy_per_day", "15 kJ"),
            ['energy_per_day = "20 kJ"   # a day\'s sun'],
            ['energy_per_day = "15 kJ"   # a day\'s sun'],
        ),
        (
            ("left", "energy_per_day", "15 kJ", "standalone"),
            ['energy_per_day = "20 kJ"   # a day\'s sun'],
            ['energy_per_day = { limit = "15 kJ", on_exhausted = "standalone" }   # a day\'s sun'],
        ),
        (
            ("left", "first_token", "2 s"),
            ['first_token = { limit = "300 ms" , on_exhausted = "refuse" } # not later'],
            ['first_token = { limit = "2 s" , on_exhausted = "refuse" } # not later'],
        ),
        (("left", "per_token", "9 ms"), [], ['per_token = "9 ms"']),
        (("left", "memory", None), [], ["memory = false"]),
        (("far right", "memory", "1 GiB"), [], ['memory = "1 GiB"']),
        (("top", "memory", "2 GB"), ['top.memory = "1 GB"'], ['top.memory = "2 GB"']),
        (("top", "per_token", "9 ms"), [], ['top.per_token = "9 ms"']),
        (("flat", "per_token", "9 ms"), ["flat = {}"], ['flat = {per_token = "9 ms"}']),
    ],
)
def test_one_line_changes(arguments, gone, came):
    assert change(_TEXT, *arguments) == (gone, came)


def test_a_new_line_stands_in_its_section_and_comments_with_what_they_are_about():
    file = parse_budgets(_TEXT, "b.toml", {})
    rows = with_line(_TEXT, file, "left", "per_token", "9 ms").split("\n")
    at = rows.index('per_token = "9 ms"')
    assert rows[at - 1].startswith("first_token")
    assert rows[at + 1 : at + 4] == ["", "# the other one", '[device."far right"]']


def test_what_then_happens_stays_what_was_inherited():
    assert change(_TEXT, "left", "uplink_per_day", "2 MB")[1] == [
        'uplink_per_day = { limit = "2 MB", on_exhausted = "queue" }'
    ]
    assert change(_TEXT, "left", "average_power", "9 W")[1] == [
        'average_power = { limit = "9 W", window = "300 s" }'
    ]
    assert change(_TEXT, "left", "uplink_per_day", "2 MB", "refuse")[1] == [
        'uplink_per_day = { limit = "2 MB", on_exhausted = "refuse" }'
    ]


def test_newlines_stay_as_they_are():
    text = _TEXT.replace("\n", "\r\n")
    file = parse_budgets(text, "b.toml", {})
    for name in ("energy_per_day", "per_token"):
        changed = with_line(text, file, "left", name, show(5, UNITS[name]))
        assert changed.count("\r\n") == changed.count("\n")


_DEVICES = st.sampled_from(["left", "far right", "top", "flat"])


@given(
    st.lists(st.tuples(_DEVICES, st.sampled_from(LINES), st.integers(1, 900)), max_size=8),
    st.sampled_from(["\n", "\r\n"]),
)
def test_after_any_changes_the_file_says_what_was_set_last(changes, newline):
    text = _TEXT.replace("\n", newline)
    wanted = {}
    for device, name, number in changes:
        limit = show(number, UNITS[name])
        if name == "energy_per_request" or (device, name) == ("left", "energy_per_day"):
            limit = "20 kJ"  # or one request would take more than the day has
        if name == "energy_per_day":
            limit = "30 kJ"
        file = parse_budgets(text, "b.toml", {})
        text = with_line(text, file, device, name, limit)
        wanted[device, name] = parse(limit, UNITS[name])
    after, before = parse_budgets(text, "b.toml", {}), parse_budgets(_TEXT, "b.toml", {})
    for device in before.devices:
        for name in LINES:
            expected = wanted.get((device, name), before.budget(device).limit(name))
            assert after.budget(device).limit(name) == expected
    for comment in ("# budgets of the gate", "# a day's sun", "# the other one", "# end"):
        assert comment in text
