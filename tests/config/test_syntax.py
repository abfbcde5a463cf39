"""Faults in syntax: all at once, in words that say what to write."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from updraft.config.syntax import parse_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_what_can_be_read_is_read_and_every_wrong_line_is_named():
    values, faults = parse_toml(
        '[a]\nx = 20 kJ\ny = 1\nz = refuse # how\n[b]\nx = 1\nx = 2\nv = True\nw = "open\nu = 3\n'
    )
    assert values == {"a": {"y": 1}, "b": {"x": 1, "u": 3}}
    assert faults[:4] == [
        (2, 'not TOML: text stands in quotes: write "20 kJ"'),
        (4, 'not TOML: text stands in quotes: write "refuse"'),
        (7, "not TOML: this is written already in line 6"),
        (8, "not TOML: write true, in small letters"),
    ]
    assert [fault.line for fault in faults] == [2, 4, 7, 8, 9]


def test_a_section_that_stands_twice_is_named_with_the_first():
    values, faults = parse_toml("[a.b]\nx = 1\n[c]\n[a.b]\n")
    assert values == {}
    assert faults == [(4, "not TOML: this is written already in line 1")]


def test_unquoted_amounts_in_an_inline_table_are_named():
    _, [fault] = parse_toml('a = { limit = 20 kJ, then = "x" }\n')
    assert fault == (1, 'not TOML: text stands in quotes: write "20 kJ"')


@pytest.mark.parametrize(
    "text",
    ["a = [" * 5000, "a = " + "{b = " * 5000, 'a = """', "a = [1,\n2 3]\n", "a = " + "9" * 5000],
)
def test_what_cannot_be_gone_on_from_is_one_fault(text):
    values, faults = parse_toml(text)
    assert values == {}
    assert len(faults) == 1


def test_faults_come_to_an_end():
    values, faults = parse_toml("a = b\n" * 1000)
    assert values == {}
    assert [fault.line for fault in faults] == [*range(1, 21), 20]
    assert faults[-1].message == "not TOML: 20 such faults; there may be more"


_LINES = st.sampled_from(
    ["a = 1", "a = 2", "b = 3 J", "[a]", "[c]", "[[c]]", "c.d = 'x'", "e = {", "}", "x", "= 1", ""]
)


@given(st.lists(_LINES, max_size=8))
def test_text_without_faults_is_what_the_parser_says_and_other_text_has_faults(lines):
    text = "\n".join(lines)
    values, faults = parse_toml(text)
    try:
        expected = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        assert faults
        assert all(1 <= fault.line <= len(lines) for fault in faults)
    else:
        assert (values, faults) == (expected, [])
