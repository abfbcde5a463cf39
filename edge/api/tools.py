"""Tools that a model may call: what requests say of them, and the grammar of their calls."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field

from updraft.edge.api.body import Strict
from updraft.edge.api.dialect import Dialect
from updraft.errors import RequestError
from updraft.models.constraint import Constraint

MOST_TOOLS = 128
_NAME = r"^[a-zA-Z0-9_.-]{1,64}$"


class Function(Strict):
    """A tool as the model sees it; `strict` is always so: arguments follow their schema."""

    name: str = Field(pattern=_NAME)
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Strict):
    """One entry of `tools`."""

    type: Literal["function"]
    function: Function

    def described(self) -> dict[str, Any]:
        """Return it as chat templates read it."""
        return {
            "type": self.type,
            "function": self.function.model_dump(exclude_none=True, exclude={"strict"}),
        }


class Named(Strict):
    """The name of a tool."""

    name: str


class NamedTool(Strict):
    """`tool_choice` of one tool."""

    type: Literal["function"]
    function: Named


ToolChoice = Literal["auto", "none", "required"] | NamedTool


class Toolbox:
    """The tools of one request, and whether the model must call one.

    Args:
        tools: at least one.
        parallel: several may be called in one answer.
        mark: the token that the dialect's mark is, where that has no text.

    Raises:
        RequestError: names that are not unique, or a choice of none of them.
    """

    def __init__(
        self,
        tools: list[Tool],
        choice: ToolChoice | None,
        parallel: bool,
        dialect: Dialect,
        mark: int | None,
    ) -> None:
        names = [tool.function.name for tool in tools]
        if len(set(names)) < len(names):
            raise RequestError(f"tools: two have the same name, in {', '.join(names)}")
        self.dialect = dialect
        self.mark = mark
        self.forced = choice == "required" or isinstance(choice, NamedTool)
        self._callable = tools
        self._parallel = parallel
        if isinstance(choice, NamedTool):
            self._callable = [t for t in tools if t.function.name == choice.function.name]
            self._parallel = False
            if not self._callable:
                raise RequestError(
                    f"tool_choice {choice.function.name!r} is none of {', '.join(names)}"
                )

    @property
    def opening(self) -> str:
        """What a forced call begins with, which is put at the end of the prompt."""
        if not self.forced or not self.dialect.opening:
            return ""
        return self.dialect.opening + ("" if self.dialect.array else "\n")

    def constraint(self) -> Constraint:
        """Return the grammar of the answer.

        Raises:
            RequestError: schemas that are too large.
        """
        calls = " | ".join(f"call_{number}" for number in range(len(self._callable)))
        rules = self._forced() if self.forced else self._free()
        lines = ["%llguidance {}", *rules, f"call: {calls}"]
        for number, tool in enumerate(self._callable):
            name = json.dumps(tool.function.name)
            head = json.dumps(f'{{"name": {name}, "{self.dialect.arguments}": ')
            lines += [
                f'call_{number}: {head} arguments_{number} "}}"',
                f"arguments_{number}: %json {json.dumps(_arguments(tool))}",
            ]
        try:
            return Constraint("lark", "\n".join(lines) + "\n")
        except RequestError as error:
            raise RequestError(f"tools: too many, or too large: {error}") from error

    def _forced(self) -> list[str]:
        return ["start: calls", *self._calls()]

    def _free(self) -> list[str]:
        """Return the rules of an answer that may call, once its text says so."""
        dialect, mark = self.dialect, self.mark
        if not dialect.opening:
            # A text that begins with an object is a call.
            marked = "" if mark is None else f"<[{mark}]>? "
            return [f"start: {marked}call | TEXT", "TEXT: /([^{](.|\\n)*)?/"]
        text = "TEXT: /(.|\\n)*/"
        if mark is not None:
            gap = "" if dialect.array else '"\\n" '
            return [f"start: TEXT | TEXT <[{mark}]> {gap}calls", text, *self._calls()]
        opened = f"opened[lazy]: TEXT {json.dumps(dialect.opening)}"
        if dialect.array:
            return ["start: TEXT | opened calls", text, opened, *self._calls()]
        start = "called* TEXT" if self._parallel else "TEXT | called"
        called = f'called: opened "\\n" call {self._end}'
        return [f"start: {start}", text, opened, called]

    def _calls(self) -> list[str]:
        """Return the rules of calls that have been opened."""
        dialect = self.dialect
        if dialect.array:
            more = ' (", " call)*' if self._parallel else ""
            return [f'calls: " "? "[" call{more} "]"']
        if not dialect.closing:
            return ["calls: call"]
        again = json.dumps(f"\n{dialect.opening}\n")
        more = f" ({again} call {self._end})*" if self._parallel else ""
        return [f"calls: call {self._end}{more}"]

    @property
    def _end(self) -> str:
        return json.dumps("\n" + self.dialect.closing)


def _arguments(tool: Tool) -> dict[str, Any]:
    return {**(tool.function.parameters or {}), "type": "object"}
