"""`POST /v1/completions`: a prompt is continued."""

from __future__ import annotations

from typing import Any, ClassVar

from updraft.edge.api.answers import Answers
from updraft.edge.api.body import Body
from updraft.edge.api.logprobs import Scored, Scores
from updraft.edge.api.model import Served
from updraft.edge.api.serving import Ended, Order, Written
from updraft.errors import RequestError

_MOST_LOGPROBS = 5
_MOST_ORDERS = 64
_DEFAULT_TOKENS = 16

Prompt = str | list[str] | list[int] | list[list[int]]


class CompletionBody(Body):
    """Body of a completion request."""

    neutral: ClassVar[dict[str, tuple[object, ...]]] = {**Body.neutral, "suffix": ("",)}

    prompt: Prompt
    max_tokens: int | None = None
    echo: bool | None = None
    logprobs: int | None = None
    best_of: int | None = None
    suffix: Any = None

    def check(self) -> None:
        super().check()
        if self.best_of not in (None, self.choices):
            raise RequestError(f"best_of {self.best_of} is not supported, other than n")
        if self.logprobs is not None and not 0 <= self.logprobs <= _MOST_LOGPROBS:
            raise RequestError(f"logprobs {self.logprobs} lies outside 0 to {_MOST_LOGPROBS}")
        if self.echo and self.logprobs is not None:
            raise RequestError("echo: the prompt's logprobs are not supported")


def complete(body: CompletionBody, served: Served) -> CompletionAnswers:
    """Return what is to be decoded, ready to be answered.

    Raises:
        RequestError: it can never be served.
    """
    prompts = _prompts(body.prompt)
    if len(prompts) * body.choices > _MOST_ORDERS:
        raise RequestError(
            f"{len(prompts)} prompts and n {body.choices} make {len(prompts) * body.choices} "
            f"answers; at most {_MOST_ORDERS} are given to one request"
        )
    orders: list[Order] = []
    tokenizer = served.engine.tokenizer
    for prompt in prompts:
        if isinstance(prompt, str):
            text, tokens = prompt, tokenizer.encode(prompt)
        else:
            text, tokens = served.text_of(prompt), prompt
        asked = body.request(
            text,
            tokens,
            _DEFAULT_TOKENS if body.max_tokens is None else body.max_tokens,
            served.config.decoding,
            served.has_cloud,
            logprobs=body.logprobs,
        )
        orders += served.orders(body, asked, tokens)
    return CompletionAnswers(body, served, orders)


class CompletionAnswers(Answers):
    """Answers of the shape `text_completion`."""

    kind, whole_object, chunk_object = "cmpl", "text_completion", "text_completion"

    def __init__(self, body: CompletionBody, served: Served, orders: list[Order]) -> None:
        super().__init__(body, served.name, orders)
        self._echoed = [order.request.prompt if body.echo else "" for order in orders]
        self._texts = list(self._echoed)
        self._scores = [Scores(served.engine.tokenizer) for _ in orders]
        self._given: list[list[Scored]] = [[] for _ in orders]
        self._scored = body.logprobs is not None

    def first(self) -> list[dict[str, Any]]:
        echoed = enumerate(self._echoed)
        return [self._chunk([self._said(i, text, [])], None) for i, text in echoed if text]

    def written(self, event: Written) -> list[dict[str, Any]]:
        index, token = event
        scores = self._scores[index].take(token) if self._scored else []
        self._texts[index] += token.text
        self._given[index] += scores
        return [self._said(index, token.text, scores)]

    def ended(self, event: Ended) -> list[dict[str, Any]]:
        return [self._said(event.choice, "", []) | {"finish_reason": self._reasons[event.choice]}]

    def choice(self, index: int) -> dict[str, Any]:
        said = self._said(index, self._texts[index], self._given[index])
        return said | {"finish_reason": self._reasons[index]}

    def _said(self, index: int, text: str, scores: list[Scored]) -> dict[str, Any]:
        logprobs = None
        if self._scored:
            logprobs = self._scores[index].for_text(scores, len(self._echoed[index]))
        return {"index": index, "text": text, "logprobs": logprobs, "finish_reason": None}


def _prompts(prompt: Prompt) -> list[str] | list[list[int]]:
    """Return the prompts one by one.

    Raises:
        RequestError: there is none.
    """
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise RequestError("prompt: the list is empty")
    if isinstance(prompt[0], int):
        return [[int(token) for token in prompt if isinstance(token, int)]]
    return [p for p in prompt if isinstance(p, str)] or [p for p in prompt if isinstance(p, list)]
