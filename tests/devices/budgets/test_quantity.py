"""Amounts with a unit: what is written is what is meant, or it is refused with what to write."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.devices.budgets.quantity import parse, show

_UNITS = st.sampled_from(["J", "W", "ms", "B"])
_VALUES = st.floats(min_value=1e-6, max_value=1e17)


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("20 kJ", "J", 20e3),
        ("20kJ", "J", 20e3),
        (" 1_000.5 mJ ", "J", 1.0005),
        ("1.5e3 J", "J", 1500),
        ("2 Wh", "J", 7200),
        ("0.1 kWh", "J", 360e3),
        ("250 mW", "W", 0.25),
        ("1.5 s", "ms", 1500),
        ("80 µs", "ms", 0.08),
        ("80 us", "ms", 0.08),
        ("2 min", "ms", 120e3),
        ("1 h", "ms", 3.6e6),
        ("50 MB", "B", 50e6),
        ("4 GiB", "B", 4 << 30),
        ("500 tokens", "tokens", 500),
        ("1 token", "tokens", 1),
    ],
)
def test_amounts_are_read(text, unit, value):
    assert parse(text, unit) == value


@pytest.mark.parametrize(
    ("text", "unit", "said"),
    [
        ("20 W", "J", '"20 W" is a power where an energy is needed, as "20 kJ"'),
        ("3 s", "W", '"3 s" is a time where a power is needed, as "15 W"'),
        ("20", "J", '"20" has no unit; write "20 J" or "20 kJ"'),
        ("500", "tokens", '"500" has no unit; write "500 tokens"'),
        ("20 KJ", "J", '"20 KJ" has an unknown unit; did you mean "20 kJ"?'),
        ("3 Mj", "J", '"3 Mj" has an unknown unit; did you mean "3 mJ" or "3 MJ"?'),
        ("8 Mb", "B", '"8 Mb" has an unknown unit; did you mean "8 MB"?'),
        ("20 kJ/day", "J", '"20 kJ/day" has an unknown unit; did you mean "20 kJ"?'),
        ("5 lots", "B", '"5 lots" has an unknown unit; known are B, kB, MB, '),
        ("1,5 kJ", "J", '"1,5 kJ" has a comma; write "1.5 kJ"'),
        ("much", "W", '"much" is no number with a unit; write it as "15 W"'),
        ("", "ms", '"" is no number with a unit; write it as "300 ms"'),
        ("-3 J", "J", '"-3 J" must lie above 0'),
        ("0 kJ", "J", '"0 kJ" must lie above 0'),
        ("1e-999 J", "J", '"1e-999 J" must lie above 0'),
        ("1e300 J", "J", '"1e300 J" is more than any device could use'),
        ("1.5 tokens", "tokens", '"1.5 tokens" must be a whole number'),
        ("nan J", "J", '"nan J" is no number'),
        ("٣ J", "J", '"٣ J" is no number'),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_to_write(text, unit, said):
    with pytest.raises(ValueError) as caught:
        parse(text, unit)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("value", "unit", "digits", "text"),
    [
        (20e3, "J", None, "20 kJ"),
        (0.25, "J", None, "250 mJ"),
        (0, "J", None, "0 J"),
        (999.96, "J", 3, "1 kJ"),
        (123456.789, "J", 3, "123 kJ"),
        (0.08, "ms", None, "80 µs"),
        (4 << 30, "B", None, "4 GiB"),
        (4e9, "B", None, "4 GB"),
        (4 << 30, "B", 3, "4.29 GB"),
        (20000, "tokens", None, "20000 tokens"),
    ],
)
def test_amounts_are_shown_in_the_unit_that_reads_best(value, unit, digits, text):
    assert show(value, unit, digits) == text


def test_an_amount_can_be_shown_in_the_unit_of_another():
    assert show(3600, "J", 2, like=902) == "3600 J"
    assert show(90, "J", 2, like=1800) == "0.09 kJ"


@given(_VALUES, _UNITS)
def test_what_is_shown_reads_back_as_the_same(value, unit):
    assert parse(show(value, unit), unit) == value


@given(_VALUES, _UNITS, st.integers(2, 6))
def test_what_is_shown_rounded_reads_back_as_nearly_the_same(value, unit, digits):
    read = parse(show(value, unit, digits), unit)
    assert math.isclose(read, value, rel_tol=10.0 ** (1 - digits))


@given(st.text(max_size=30), st.sampled_from(["J", "W", "ms", "B", "tokens"]))
def test_any_text_is_an_amount_above_0_or_refused(text, unit):
    try:
        value = parse(text, unit)
    except ValueError as error:
        assert str(error)
    else:
        assert 0 < value < math.inf
