"""Constraints: what a grammar lets through is what it says, wherever a matcher has been before."""

import json
import threading
from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from updraft.errors import RequestError
from updraft.models.chooser import Chooser
from updraft.models.constraint import Constraint, Grammars
from updraft.models.sampling import Sampling
from updraft.models.tokenizer import Tokenizer

_MOST_STEPS = 500
_FLIGHT = {
    "type": "object",
    "properties": {
        "code": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{1,4}$"},
        "seats": {"type": "integer", "minimum": 1, "maximum": 9},
        "meals": {"type": "array", "items": {"enum": ["fish", "none"]}, "maxItems": 2},
    },
    "required": ["code", "seats"],
    "additionalProperties": False,
}
LEAVES = st.one_of(
    st.just({"type": "null"}),
    st.just({"type": "boolean"}),
    st.tuples(st.integers(-999, 0), st.integers(0, 999)).map(
        lambda ends: {"type": "integer", "minimum": ends[0], "maximum": ends[1]}
    ),
    st.integers(0, 4).map(lambda most: {"type": "string", "maxLength": most}),
    st.lists(st.one_of(st.integers(0, 99), st.text(max_size=3)), min_size=1, max_size=3).map(
        lambda values: {"enum": values}
    ),
)


def _objects(inner):
    return st.dictionaries(st.text('abcü"', max_size=3), inner, max_size=3).map(
        lambda properties: {
            "type": "object",
            "properties": properties,
            "required": sorted(properties)[:2],
            "additionalProperties": False,
        }
    )


SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        _objects(inner),
        inner.map(lambda items: {"type": "array", "items": items, "maxItems": 2}),
        st.lists(inner, min_size=1, max_size=2).map(lambda any_of: {"anyOf": any_of}),
    ),
    max_leaves=4,
)


@pytest.fixture(scope="module")
def tokenizer(bundle):
    return Tokenizer(bundle)


@pytest.fixture(scope="module")
def grammars(bundle, tokenizer):
    return Grammars(bundle, tokenizer)


def schema(document):
    return Constraint("json_schema", json.dumps(document))


def allowed(mask, size):
    return np.flatnonzero(np.unpackbits(mask.view(np.uint8), count=size, bitorder="little"))


def walk(grammars, tokenizer, constraint, seed):
    """Return a completion whose tokens are drawn from those allowed, without its end token."""
    matcher, random, tokens = grammars.matcher(constraint), Random(seed), []
    size = len(tokenizer.vocabulary_bytes())
    while len(tokens) < _MOST_STEPS and not (tokens and matcher.is_over):
        token = random.choice(allowed(matcher.mask(), size).tolist())
        if tokenizer.ends(token):
            assert matcher.can_end
            return tokens
        matcher.accept(token)
        tokens.append(token)
    assert matcher.can_end, "every completion of a bounded grammar ends"
    return tokens


def text_of(tokenizer, tokens):
    return b"".join(tokenizer.bytes_of(token) for token in tokens).decode()


def fits(value, document):
    """Whether a value is what a schema of those above says."""
    if "anyOf" in document:
        return any(fits(value, option) for option in document["anyOf"])
    if "enum" in document:
        return value in document["enum"]
    kind = document["type"]
    simple = {
        "null": lambda: value is None,
        "boolean": lambda: isinstance(value, bool),
        "integer": lambda: (
            type(value) is int and document["minimum"] <= value <= document["maximum"]
        ),
        "string": lambda: isinstance(value, str) and len(value) <= document["maxLength"],
    }
    if kind in simple:
        return simple[kind]()
    if kind == "array":
        few = isinstance(value, list) and len(value) <= document["maxItems"]
        return few and all(fits(item, document["items"]) for item in value)
    known = document["properties"]
    if not isinstance(value, dict):
        return False
    return set(document["required"]) <= set(value) <= set(known) and all(
        fits(item, known[key]) for key, item in value.items()
    )


@settings(deadline=None, max_examples=60)
@given(SCHEMAS, st.integers(0, 99))
def test_whatever_is_allowed_parses_and_is_what_the_schema_says(
    grammars, tokenizer, document, seed
):
    tokens = walk(grammars, tokenizer, schema(document), seed)
    assert fits(json.loads(text_of(tokenizer, tokens)), document)


@pytest.mark.parametrize("seed", range(6))
def test_an_expression_and_a_lark_grammar_hold(grammars, tokenizer, seed):
    tokens = walk(grammars, tokenizer, Constraint("regex", "(foo|bär)[0-9]{3}"), seed)
    text = text_of(tokenizer, tokens)
    assert text[:3] in ("foo", "bär")
    assert text[3:].isdigit()
    lark = Constraint("lark", 'start: "x" ("+" NUM)~3\nNUM: /[1-9]/')
    text = text_of(tokenizer, walk(grammars, tokenizer, lark, seed))
    assert [part.isdigit() for part in text.split("+")] == [False, True, True, True]


def test_a_schema_within_a_grammar_is_laid_out_like_any_other(grammars, tokenizer):
    inner = json.dumps({"type": "object", "x-guidance": {"whitespace_flexible": False}})
    for constraint in (Constraint("json_object"), Constraint("lark", f"start: %json {inner}")):
        matcher = grammars.matcher(constraint)
        matcher.follow(tokenizer.encode('{ "a": 1'))
        with pytest.raises(RequestError, match="may not follow"):
            matcher.follow(tokenizer.encode('{  "a": 1'))


def test_any_sequence_of_tokens_can_be_followed(grammars, tokenizer):
    matcher, tokens = grammars.matcher(Constraint("json_object")), tokenizer.encode('{"a": 1}')
    matcher.follow(tuple(tokens[:2]))
    matcher.follow(tuple(tokens))
    assert matcher.is_over
    matcher.follow(tuple(tokens[:2]))
    assert not matcher.is_over


def test_any_json_object_is_one(grammars, tokenizer):
    matcher = grammars.matcher(Constraint("json_object"))
    tokens = tokenizer.encode('{"a": [1, {"b": null}], "c": "ü"}')
    matcher.follow(tokens)
    assert matcher.can_end
    assert matcher.is_over
    with pytest.raises(RequestError, match="may not follow"):
        matcher.follow(tokenizer.encode("[1]"))


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 60)), max_size=8))
def test_what_is_allowed_depends_on_the_tokens_alone(grammars, tokenizer, visits):
    constraint = schema(_FLIGHT)
    completions = [walk(grammars, tokenizer, constraint, seed) for seed in range(6)]
    matcher = grammars.matcher(constraint)
    for which, length in visits:
        tokens = completions[which][:length]
        matcher.follow(tokens)
        fresh = grammars.matcher(constraint)
        for token in tokens:
            fresh.accept(token)
        assert (matcher.is_over, matcher.can_end) == (fresh.is_over, fresh.can_end)
        assert np.array_equal(matcher.mask(), fresh.mask())


@pytest.mark.parametrize("seed", range(3))
def test_every_allowed_token_is_accepted(grammars, tokenizer, seed):
    constraint, size = schema(_FLIGHT), len(tokenizer.vocabulary_bytes())
    tokens = walk(grammars, tokenizer, constraint, seed)
    matcher = grammars.matcher(constraint)
    for length in range(0, len(tokens), 3):
        matcher.follow(tokens[:length])
        for token in allowed(matcher.mask(), size).tolist()[:200]:
            matcher.accept(token)
            matcher.rollback(1)
        matcher.follow(tokens[:length])


def test_after_an_error_a_matcher_goes_on(grammars, tokenizer):
    matcher = grammars.matcher(Constraint("regex", "abc"))
    before = matcher.mask().copy()
    with pytest.raises(RequestError, match="may not follow"):
        matcher.follow(tokenizer.encode("x"))
    assert np.array_equal(matcher.mask(), before)
    matcher.follow(tokenizer.encode("abc"))
    assert matcher.is_over


def test_the_only_token_is_known_without_a_model(grammars, tokenizer):
    prompt = [5, 6, 7]
    constraint = Constraint("regex", "[01]yes")
    chooser = Chooser(Sampling(), 3, tokenizer.ends, grammars.matcher(constraint))
    assert chooser.forced(prompt) is None
    text = [*prompt, *tokenizer.encode("0")]
    while not chooser.ends(text):
        text.append(chooser.forced(text))
    assert text_of(tokenizer, text[3:]) == "0yes"


@pytest.mark.parametrize(
    ("kind", "text", "what"),
    [
        ("xml", "", "choose from json_schema"),
        ("json_schema", "{", "is no JSON"),
        ("json_schema", "3", "must be a JSON object"),
        ("json_schema", " " * 70_000 + "{}", "at most 65536"),
        ("json_schema", '{"items":' * 5000 + "{}" + "}" * 5000, "nested too deeply|cannot be used"),
        ("json_schema", '{"not": {}, "if": {}}', '"not", "if"|"if", "not"'),
        ("json_schema", '{"type": "strinc"}', "strinc"),
        ("json_schema", '{"$ref": "#/$defs/none"}', "none"),
        ("json_schema", '{"$ref": "#"}', "nothing satisfies it"),
        ("json_schema", '{"x-guidance": {"lenient": true}, "not": {}}', '"not"'),
        ("json_schema", json.dumps({"properties": {str(i): {} for i in range(2001)}}), "2002 key"),
        ("json_schema", '{"const": "\\ud800"}', "cannot be used"),
        ("json_object", "{}", "at most 0"),
        ("regex", "(a", "unclosed group"),
        ("regex", "a" * 9000, "at most 8192"),
        ("regex", "\ud800", "UTF-8"),
        ("lark", "start: other", "other"),
        ("lark", "start: " + "(" * 4000 + '"a"' + ")" * 4000, "nested"),
    ],
)
def test_what_makes_no_sense_is_refused_and_named(grammars, kind, text, what):
    with pytest.raises(RequestError, match=what):
        grammars.matcher(Constraint(kind, text))


def _chain(rule, last, most_bytes):
    """Return as many rules as fit, each of which needs the next one."""
    names = [a + b + c for a in "abcdefgh" for b in "abcdefghijklm" for c in "nopqrstuvwxyz"]
    text = "start: aan\n"
    for name, following in pairwise(names):
        if len(text) + 40 > most_bytes:
            return text + last.format(name)
        text += rule.format(name, following)
    raise AssertionError("more names are needed")


ENDLESS = {
    "deep rules": Constraint("lark", _chain('{}: "a" {}\n', '{}: "a"', 8192)),
    "deep choices": Constraint("lark", _chain('{0}: {1} "x" | {1}\n', '{}: "a"', 8192)),
    "exponential": Constraint(
        "lark",
        "start: r0\n" + "".join(f"r{i}: r{i + 1} r{i + 1}\n" for i in range(60)) + 'r60: "a"',
    ),
    "counts": Constraint("regex", "((a{1,1000}){1,1000}){1,1000}"),
    "states": Constraint("regex", "(" + "|".join(f"(a|b)*a(a|b){{{i}}}" for i in range(60)) + ")"),
    "products": schema(
        {
            "allOf": [
                {"anyOf": [{"properties": {f"p{i}{j}": {"type": "null"}}} for j in range(8)]}
                for i in range(12)
            ]
        }
    ),
    "wide": schema({"type": "object", "properties": {f"p{i}": {} for i in range(900)}}),
    "deep": schema(
        {"$ref": "#/$defs/0"}
        | {
            "$defs": {
                str(i): {"minItems": 1, "items": {"$ref": f"#/$defs/{i + 1}"}} for i in range(450)
            }
            | {"450": {}}
        }
    ),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_grammar_without_end_neither_hangs_nor_ends_the_process(grammars, tokenizer, name):
    """It is refused, or followed; from a thread, whose stack is small, as by a coordinator."""
    outcome = []

    def follow():
        try:
            matcher = grammars.matcher(ENDLESS[name])
            for _ in range(30):
                token = int(allowed(matcher.mask(), 256)[0])
                matcher.accept(token)
        except (RequestError, IndexError) as error:
            outcome.append(error)
        outcome.append("done")

    thread = threading.Thread(target=follow)
    thread.start()
    thread.join(60)
    assert outcome[-1:] == ["done"]


class _Exit:
    """An exit that is sure of one token."""

    def __init__(self, token, size):
        self.logits = np.zeros(size, np.float32)
        self.logits[token] = 9

    def pick(self, sampling, position):
        return sampling.pick(self.logits, position)


def test_an_exit_is_not_trusted_where_its_best_token_may_not_be(grammars, tokenizer):
    size = len(tokenizer.vocabulary_bytes())
    chooser = Chooser(Sampling(), 1, tokenizer.ends, grammars.matcher(Constraint("regex", "[ab]c")))
    free = Chooser(Sampling(), 1, tokenizer.ends)
    for character, trusted in (("a", 0.9), ("z", 0.0)):
        exit_ = _Exit(tokenizer.encode(character)[0], size)
        assert chooser.trusted(exit_, [5], 0.9) == trusted
        assert free.trusted(exit_, [5], 0.9) == 0.9
        assert tokenizer.bytes_of(chooser.pick(exit_, [5]))[:1] in b"ab"
        assert tokenizer.bytes_of(free.pick(exit_, [5])) == character.encode()
