"""Tool calls: what the grammar lets a model write, and what is read out of it."""

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.edge.api.calls import Argued, Called, CallReader, Said
from updraft.edge.api.dialect import HERMES, LLAMA, MISTRAL
from updraft.edge.api.tools import NamedTool, Tool, Toolbox
from updraft.errors import RequestError
from updraft.models.constraint import Grammars

_DIALECTS = {dialect.name: dialect for dialect in (HERMES, LLAMA, MISTRAL)}
_ONE = '{"name": "f", "KEY": {"a": 1}}'
_TWO = '{"name": "g", "KEY": {"a": -2}}'
_TEXTS = {
    "hermes": {
        "plain": "Hello {1} <tool",
        "one": f"<tool_call>\n{_ONE}\n</tool_call>",
        "after text": f"Let me see.\n<tool_call>\n{_ONE}\n</tool_call>",
        "two": f"<tool_call>\n{_ONE}\n</tool_call>\n<tool_call>\n{_TWO}\n</tool_call>",
    },
    "llama": {"plain": "Hello {1}", "one": _ONE},
    "mistral": {
        "plain": "Hello [1]",
        "one": f"[TOOL_CALLS] [{_ONE}]",
        "two": f"[TOOL_CALLS][{_ONE}, {_TWO}]",
    },
}
_CASES = [(name, kind) for name, texts in _TEXTS.items() for kind in texts]


def text_of(name, kind):
    return _TEXTS[name][kind].replace("KEY", _DIALECTS[name].arguments)


def read(dialect, pieces, opened=False):
    """Return what is said, and the calls as (name, arguments)."""
    reader, said, calls = CallReader(dialect, opened), "", []
    found = [piece for text in pieces for piece in reader.push(text)] + reader.finish()
    for piece in found:
        if isinstance(piece, Said):
            said += piece.text
        elif isinstance(piece, Called):
            assert piece.call == len(calls)
            calls.append([piece.name, ""])
        else:
            assert isinstance(piece, Argued)
            calls[piece.call][1] += piece.text
    return said, [(name, json.loads(arguments)) for name, arguments in calls]


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 200), max_size=12))
@pytest.mark.parametrize(("name", "kind"), _CASES)
def test_calls_are_read_however_the_text_is_cut(name, kind, cuts):
    text, dialect = text_of(name, kind), _DIALECTS[name]
    edges = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    said, calls = read(dialect, pieces)
    expected = {"plain": [], "two": [("f", {"a": 1}), ("g", {"a": -2})]}
    assert calls == expected.get(kind, [("f", {"a": 1})])
    assert said == {"plain": text, "after text": "Let me see.\n"}.get(kind, "")


def test_braces_and_quotes_within_strings_do_not_end_the_arguments():
    arguments = {"a": '}"\\{', "b": [{"c": "]"}], "d": "</tool_call>"}
    call = json.dumps({"name": "f", "arguments": arguments})
    assert read(HERMES, f"<tool_call>\n{call}\n</tool_call>") == ("", [("f", arguments)])


@pytest.mark.parametrize(
    "text", ["<tool_call>no object</tool_call>", "<tool_call>\n{'name'}", '<tool_call>{"x": 1}']
)
def test_what_only_begins_like_a_call_is_text(text):
    said, calls = read(HERMES, text)
    assert calls == []
    assert said.strip() == text.removeprefix("<tool_call>").strip()


def test_a_name_that_no_tool_can_have_is_text():
    text = '{"name": "f\\q", "arguments": {}}'
    reader = CallReader(HERMES, opened=True)
    assert [*reader.push(text), *reader.finish()] == [Said(text)]


def test_arguments_are_given_as_they_come():
    reader = CallReader(HERMES, opened=True)
    assert isinstance(reader.push('{"name": "f", "arguments": ')[0], Called)
    assert reader.push('{"a": ') == [Argued(0, '{"a": ')]
    assert reader.push("1}}") == [Argued(0, "1}")]


_SCHEMA = {
    "type": "object",
    "properties": {"a": {"type": "integer"}},
    "required": ["a"],
    "additionalProperties": False,
}


def tools(*names, schema=_SCHEMA):
    function = {"parameters": schema}
    described = [{"type": "function", "function": {"name": name, **function}} for name in names]
    return [Tool.model_validate(tool) for tool in described]


@pytest.fixture(scope="module")
def grammars(tiny_bundle):
    return Grammars(tiny_bundle)


@pytest.fixture(scope="module")
def allows(grammars, tiny_bundle):
    """Return a function that says whether a constraint lets a whole text be written."""
    from updraft.models.tokenizer import Tokenizer

    tokenizer = Tokenizer(tiny_bundle)

    def check(toolbox, text):
        matcher = grammars.matcher(toolbox.constraint())
        try:
            for token in tokenizer.encode(text):
                matcher.accept(token)
        except RequestError:
            return False
        return matcher.can_end

    return check


@pytest.mark.parametrize(("name", "kind"), _CASES)
def test_the_grammar_allows_what_is_read(allows, name, kind):
    toolbox = Toolbox(tools("f", "g"), None, True, _DIALECTS[name], None)
    assert allows(toolbox, text_of(name, kind))
    forced = Toolbox(tools("f", "g"), "required", True, _DIALECTS[name], None)
    text = text_of(name, kind)
    if text.startswith(forced.opening) and kind != "plain":
        assert allows(forced, text.removeprefix(forced.opening))
        assert read(_DIALECTS[name], text.removeprefix(forced.opening), bool(forced.opening))[1]


@pytest.mark.parametrize("name", _DIALECTS)
def test_the_grammar_refuses_other_tools_and_arguments(allows, name):
    dialect = _DIALECTS[name]
    good = text_of(name, "one")
    for bad in (good.replace('"f"', '"h"'), good.replace("1", '"x"'), good.replace('"a"', '"b"')):
        assert not allows(Toolbox(tools("f"), None, True, dialect, None), bad)
    named = NamedTool.model_validate({"type": "function", "function": {"name": "g"}})
    toolbox = Toolbox(tools("f", "g"), named, True, dialect, None)
    assert not allows(toolbox, good.removeprefix(toolbox.opening))
    assert allows(toolbox, good.replace('"f"', '"g"').removeprefix(toolbox.opening))


@pytest.mark.parametrize("name", ["hermes", "mistral"])
def test_one_call_is_enough_where_there_may_be_but_one(allows, name):
    toolbox = Toolbox(tools("f", "g"), None, False, _DIALECTS[name], None)
    assert allows(toolbox, text_of(name, "one"))
    assert not allows(toolbox, text_of(name, "two"))


def test_large_tools_fit_and_larger_ones_are_refused(grammars):
    schema = {**_SCHEMA, "description": "x" * 20_000}
    grammars.matcher(Toolbox(tools("f", "g", schema=schema), None, True, HERMES, None).constraint())
    with pytest.raises(RequestError, match="tools: too many, or too large"):
        Toolbox(tools(*"fghi", schema=schema), None, True, HERMES, None).constraint()
