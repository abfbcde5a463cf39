"""Constrained decoding: which tokens a grammar lets follow a text.

What is allowed after some tokens depends on those tokens alone, so edge and cloud agree on it
wherever each of them stands. The grammars themselves are llguidance's.
"""

from __future__ import annotations

import json
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from updraft.errors import RequestError
from updraft.models.bundle import Bundle
from updraft.models.sampling import Mask
from updraft.models.tokenizer import Tokenizer

ConstraintKind = Literal["json_schema", "json_object", "regex", "lark"]
CONSTRAINT_KINDS: tuple[ConstraintKind, ...] = get_args(ConstraintKind)

# Longer texts could nest rules so deeply that the compiler leaves its stack, which ends the
# process; these are half of what was seen to do no harm.
_MOST_BYTES: dict[ConstraintKind, int] = {
    "json_schema": 64 << 10,
    "json_object": 0,
    "regex": 8 << 10,
    "lark": 8 << 10,
}
_EMBEDDED = re.compile(r"%json\b(.*)")
# The time to compile grows with the square of the properties; so many take about a second.
_MOST_KEYS = 2_000
_COMPILER_STACK_BYTES = 256 << 20
# Bounds on what one grammar may cost, about: 100 ms to compile, 20 ms for a mask, 20 MiB.
_LIMITS: dict[str, Any] = {
    "max_items_in_row": 2_000,
    "initial_lexer_fuel": 1_000_000,
    "step_lexer_fuel": 200_000,
    "step_max_items": 20_000,
    "max_lexer_states": 10_000,
    "max_grammar_size": 100_000,
}
# How JSON may be laid out. Without a bound, models that are unsure go on with white space for
# ever; and what a schema says about this itself does not count.
_JSON_LAYOUT = {
    "whitespace_pattern": r"( |\n[ \t]{0,20})?",
    "whitespace_flexible": True,
    "lenient": False,
}
# What a matcher holds, about; more where the text is ambiguous.
GRAMMAR_BYTES = 32 << 10
_KEPT_GRAMMARS = 32
_LONGEST_REASON = 300


@dataclass(frozen=True)
class Constraint:
    """What a completion must be; its size is checked when it is made.

    Attributes:
        kind: how `text` says it: a JSON schema, any JSON object (no text), a regular expression,
            or a grammar in llguidance's Lark.

    Raises:
        RequestError: the kind is unknown, or the text too long or no JSON.
    """

    kind: ConstraintKind
    text: str = ""

    def __post_init__(self) -> None:
        if self.kind not in CONSTRAINT_KINDS:
            raise RequestError(
                f"constraint {self.kind!r} is unknown: choose from {', '.join(CONSTRAINT_KINDS)}"
            )
        if self.kind == "lark":
            # The schemas in a grammar are alone to the end of their lines, and checked as such.
            schemas = _EMBEDDED.findall(self.text)
            _check_size("json_schema", "".join(schemas))
            _check_size("lark", _EMBEDDED.sub("", self.text))
        else:
            schemas = [self.text] if self.kind == "json_schema" else []
            _check_size(self.kind, self.text)
        for schema in schemas:
            _check_json(schema)

    def grammar(self, matcher: Any) -> str:
        """Return it in llguidance's own form."""
        if self.kind == "regex":
            grammar: str = matcher.grammar_from_regex(self.text)
        elif self.kind == "lark":
            grammar = matcher.grammar_from_lark(_EMBEDDED.sub(_laid_out, self.text))
        else:
            text = '{"type": "object"}' if self.kind == "json_object" else self.text
            grammar = matcher.grammar_from_json_schema(text, overrides=_JSON_LAYOUT)
        return grammar


def _check_size(kind: ConstraintKind, text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise RequestError(
            f"constraint {kind!r} is not valid UTF-8 at character {error.start}"
        ) from error
    most = _MOST_BYTES[kind]
    if size > most:
        raise RequestError(f"constraint {kind!r} has {size} bytes, at most {most} are taken")


def _check_json(text: str) -> None:
    try:
        schema = json.loads(text)
    except ValueError as error:
        raise RequestError(f"constraint 'json_schema' is no JSON: {error}") from error
    except RecursionError as error:
        raise RequestError("constraint 'json_schema' is nested too deeply") from error
    if not isinstance(schema, dict | bool):
        raise RequestError("constraint 'json_schema' must be a JSON object, or true")
    if (keys := _keys_in(schema)) > _MOST_KEYS:
        raise RequestError(
            f"constraint 'json_schema' has {keys} keywords and properties, at most {_MOST_KEYS} "
            "are taken"
        )


class ConstraintMatcher:
    """Follows one completion through a grammar; made by `Grammars.matcher`.

    After an error it stands before the first token again.
    """

    def __init__(self, compiled: Any, vocabulary_size: int) -> None:
        self._compiled = compiled
        self._matcher = compiled.deep_copy()
        self._tokens: list[int] = []
        self._mask: Mask = np.zeros(-(-vocabulary_size // 32), np.int32)
        self._masked_at = -1

    @property
    def can_end(self) -> bool:
        """Whether the completion satisfies the grammar as it stands."""
        return bool(self._matcher.is_accepting())

    @property
    def is_over(self) -> bool:
        """Whether nothing but the end may follow."""
        return bool(self._matcher.is_stopped())

    def mask(self) -> Mask:
        """Return the tokens that may follow, one bit each; overwritten by the next call.

        End tokens are among them where the completion may end.

        Raises:
            RequestError: none may, or the grammar takes too much to follow.
        """
        if self._masked_at != len(self._tokens):
            self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
            if self._matcher.is_error() or not self._mask.any():
                raise self._failed(f"nothing may follow its first {len(self._tokens)} tokens")
            self._masked_at = len(self._tokens)
        return self._mask

    def accept(self, token: int) -> None:
        """Go on behind a token.

        Raises:
            RequestError: the grammar has no place for it.
        """
        if not self._matcher.consume_token(token):
            raise self._failed(f"token {token} may not follow its first {len(self._tokens)}")
        self._tokens.append(token)
        self._masked_at = -1

    def rollback(self, count: int) -> None:
        """Forget the last tokens."""
        if count:
            self._matcher.rollback(count)
            del self._tokens[len(self._tokens) - count :]
            self._masked_at = -1

    def follow(self, tokens: Sequence[int]) -> None:
        """Stand behind a whole completion, wherever this stood before.

        Raises:
            RequestError: the grammar has no place for one of them.
        """
        known = self._tokens
        if known != tokens[: len(known)]:
            pairs = zip(known, tokens, strict=False)
            least = min(len(known), len(tokens))
            same = next((i for i, (a, b) in enumerate(pairs) if a != b), least)
            self.rollback(len(known) - same)
        for token in tokens[len(known) :]:
            self.accept(token)

    def _failed(self, what: str) -> RequestError:
        """Start over, because llguidance stays in an error, and return the error to raise."""
        error = RequestError(
            f"the constraint cannot be followed any further: {what}: {_reason(self._matcher)}"
        )
        self._matcher = self._compiled.deep_copy()
        self._tokens, self._masked_at = [], -1
        return error


class Grammars:
    """Compiles constraints for the vocabulary of a bundle; keeps those used last.

    Nothing is loaded before the first constraint. Any thread may call.

    Args:
        tokenizer: the bundle's, where it is loaded already.
    """

    def __init__(self, bundle: Bundle, tokenizer: Tokenizer | None = None) -> None:
        self._bundle = bundle
        self._tokenizer = tokenizer
        self._loading = threading.Lock()
        self._vocabulary: Any = None
        self._size = 0
        self._compiled: OrderedDict[Constraint, Any] = OrderedDict()

    def matcher(self, constraint: Constraint) -> ConstraintMatcher:
        """Return a matcher that stands before the first token.

        Raises:
            RequestError: the constraint makes no sense, asks for what is not supported, or takes
                too much to compile.
        """
        with self._loading:
            compiled = self._compiled.get(constraint)
            if compiled is None:
                compiled = _on_large_stack(lambda: self._compile(constraint))
                self._compiled[constraint] = compiled
                if len(self._compiled) > _KEPT_GRAMMARS:
                    self._compiled.popitem(last=False)
            self._compiled.move_to_end(constraint)
            return ConstraintMatcher(compiled, self._size)

    def _compile(self, constraint: Constraint) -> Any:
        import llguidance  # noqa: PLC0415 (50 ms and a thread pool that most texts do not need)

        if self._vocabulary is None:
            self._load(llguidance)
        limits = llguidance.LLParserLimits(verbose_errors=False, **_LIMITS)
        refused = f"constraint {constraint.kind!r} cannot be used"
        try:
            grammar = constraint.grammar(llguidance.LLMatcher)
        except ValueError as error:
            raise RequestError(f"{refused}: {error}") from error
        compiled = llguidance.LLMatcher(self._vocabulary, grammar, log_level=0, limits=limits)
        if compiled.is_error():
            raise RequestError(f"{refused}: {_reason(compiled)}")
        try:
            ConstraintMatcher(compiled, self._size).mask()
        except RequestError as error:
            raise RequestError(f"{refused}: nothing satisfies it, or it is too complex") from error
        return compiled

    def _load(self, llguidance: Any) -> None:
        words = _Words(self._tokenizer or Tokenizer(self._bundle))
        self._size = len(words.tokens)
        self._vocabulary = llguidance.LLTokenizer(
            llguidance.TokenizerWrapper(words), n_vocab=self._size, eos_token=words.ends
        )


class _Words:
    """A tokenizer as llguidance wants it.

    Where a grammar leaves no choice, it lets the next token of this tokenization follow alone: the
    one that the model has been trained on, where that spells the same bytes.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = tokenizer.vocabulary_bytes()
        # A grammar names tokens without text by their numbers, as `<[7]>`.
        self.tokens = [piece or b"\xff[%d]" % token for token, piece in enumerate(pieces)]
        self.ends = [token for token in range(len(self.tokens)) if tokenizer.ends(token)]
        self.eos_token_id = self.ends[0]
        self.bos_token_id = None
        self.special_token_ids = [i for i, piece in enumerate(pieces) if not piece]
        self._tokenizer = tokenizer
        self._pieces = pieces
        self._token_of = {piece: i for i, piece in enumerate(pieces) if piece}
        self._longest = max(map(len, self._token_of))

    def __call__(self, text: bytes) -> list[int]:
        try:
            tokens = self._tokenizer.encode(text.decode())
        except (RequestError, UnicodeDecodeError):
            return self._greedy(text)
        if tokens and not self._pieces[tokens[0]]:
            tokens = tokens[1:]  # the token that every text begins with
        whole = b"".join(self._pieces[token] for token in tokens) == text
        return tokens if whole else self._greedy(text)

    def _greedy(self, text: bytes) -> list[int]:
        """Return the longest token at each place; stops where there is none."""
        tokens, at = [], 0
        while at < len(text):
            sizes = range(min(self._longest, len(text) - at), 0, -1)
            piece = next((p for n in sizes if (p := text[at : at + n]) in self._token_of), None)
            if piece is None:
                break
            tokens.append(self._token_of[piece])
            at += len(piece)
        return tokens


def _laid_out(embedded: re.Match[str]) -> str:
    """Return a schema in a Lark grammar with the layout of all others."""
    schema = json.loads(embedded[1])
    if isinstance(schema, dict):
        schema["x-guidance"] = _JSON_LAYOUT
    return f"%json {json.dumps(schema)}"


def _keys_in(document: Any) -> int:
    """Count the keys of all objects in a JSON document."""
    keys, waiting = 0, [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            keys += len(value)
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return keys


def _reason(matcher: Any) -> str:
    """Return what llguidance says is wrong, in one line."""
    text = str(matcher.get_error()).replace("<non-verbose/>", "")
    reason = " ".join(text.split()) or "no token of the vocabulary goes on with it"
    return reason if len(reason) <= _LONGEST_REASON else f"{reason[:_LONGEST_REASON]} …"


def _on_large_stack(work: Callable[[], Any]) -> Any:
    """Run in a thread of its own: the compiler recurses as deeply as rules are nested."""
    outcome: Future[Any] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    with _starting:
        before = threading.stack_size(_COMPILER_STACK_BYTES)
        try:
            thread = threading.Thread(target=run, name="grammar", daemon=True)
            thread.start()
        finally:
            threading.stack_size(before)
    return outcome.result()


_starting = threading.Lock()
