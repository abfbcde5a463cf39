"""Lines of keys: found however a key is written, and never an exception, whatever the text."""

import json
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.config.key_lines import key_lines, key_places

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TEXT = '''# a comment = with an equals sign
title = "a # b = c"

[device.cam]  # the first
memory = "2 GB"
power = { limit = "3 W", "then" = { what = 1 } }
"odd name".'and [more]'.x = 1

[device."cam = 2"]
words = """
memory = no key
[no.header]
""" # done
list = [
  1, [2], { a = 1, b = "]" },
  { a = 3 },
]
after = true

[[mode]]
name = "a"
[[mode]]
name = "b"
[mode.more]
x = 1
'''


def test_keys_are_found_however_they_are_written():
    assert key_lines(_TEXT) == {
        ("title",): 2,
        ("device",): 4,
        ("device", "cam"): 4,
        ("device", "cam", "memory"): 5,
        ("device", "cam", "power"): 6,
        ("device", "cam", "power", "limit"): 6,
        ("device", "cam", "power", "then"): 6,
        ("device", "cam", "power", "then", "what"): 6,
        ("device", "cam", "odd name"): 7,
        ("device", "cam", "odd name", "and [more]"): 7,
        ("device", "cam", "odd name", "and [more]", "x"): 7,
        ("device", "cam = 2"): 9,
        ("device", "cam = 2", "words"): 10,
        ("device", "cam = 2", "list"): 14,
        ("device", "cam = 2", "list", "2"): 15,
        ("device", "cam = 2", "list", "2", "a"): 15,
        ("device", "cam = 2", "list", "2", "b"): 15,
        ("device", "cam = 2", "list", "3"): 16,
        ("device", "cam = 2", "list", "3", "a"): 16,
        ("device", "cam = 2", "after"): 18,
        ("mode",): 20,
        ("mode", "0"): 20,
        ("mode", "0", "name"): 21,
        ("mode", "1"): 22,
        ("mode", "1", "name"): 23,
        ("mode", "1", "more"): 24,
        ("mode", "1", "more", "x"): 25,
    }


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_lines_are_counted_alike_with_both_kinds_of_newlines(newline):
    assert key_lines(newline.join(["", "a = 1", "[b]", "c = 2"])) == {
        ("a",): 2,
        ("b",): 3,
        ("b", "c"): 4,
    }


_NAMES = st.sampled_from(["a", "b-1", "c d", "é", 'q"q', "x.y", "[z]", "="])
_TREES = st.recursive(
    st.sampled_from(["1", '"a = b # c"', "'[x]'", "[1, 2]", "true"]),
    lambda inner: st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)


def _written(tree, above=()):
    """Write a tree in TOML; return its lines, and the line of each key."""
    lines, places = [], {}
    nested = {name: value for name, value in tree.items() if isinstance(value, dict)}
    for name, value in tree.items():
        if name not in nested:
            lines += ["# a comment", f"{json.dumps(name, ensure_ascii=False)} = {value}"]
            places[(*above, name)] = len(lines)
    for name, value in nested.items():
        keys = (*above, name)
        dotted = ".".join(json.dumps(key, ensure_ascii=False) for key in keys)
        lines.append(f"[{dotted}]")
        places[keys] = len(lines)
        inner, found = _written(value, keys)
        places |= {key: len(lines) + line for key, line in found.items()}
        lines += inner
    return lines, places


@given(st.dictionaries(_NAMES, _TREES, max_size=4))
def test_every_key_of_a_written_tree_is_on_its_line(tree):
    lines, places = _written(tree)
    text = "\n".join(lines)
    tomllib.loads(text)
    assert key_lines(text) == places


@given(st.text(alphabet='ab.=[]{}",\'#\\ \n\r1"""', max_size=80))
def test_no_text_is_too_odd(text):
    last = text.count("\n") + 1
    assert all(1 <= line <= last for _, line in key_places(text))


_ROWS = st.sampled_from(
    [
        *(
            "a = 1",
            "b.a = 'x = 1'",
            '"b".c = { a = 1, d.e = [1, { f = 2 }] }',
            "c = [[1], { q = 1 }]",
        ),
        *("[a]", "[b.g]", "[[h]]", "[[h]]", "[h.i]", "[[b.k]]", "# x = 1", "e = [ # [", " 1,\n]"),
        *("[ 'l m' . n ]", 'f = """', 'x = 2"""', "o = {}", "p = 1979-05-27 07:32:00Z"),
    ]
)


def _keys(value, above=()):
    """Return the keys of what the parser made of a text, tables in arrays counted."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in pairs:
        if isinstance(value, dict) or isinstance(inner, dict):
            yield (*above, str(key))
        if isinstance(inner, (dict, list)):
            yield from _keys(inner, (*above, str(key)))


@settings(max_examples=300)
@given(st.lists(_ROWS, max_size=8).map("\n".join))
def test_the_keys_are_those_of_the_parser(text):
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    assert set(key_lines(text)) == set(_keys(values))


def test_what_is_nested_without_end_is_passed_over():
    assert key_places("a = " + "[" * 100_000)[0] == (("a",), 1)
