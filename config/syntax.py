"""Every fault in the syntax of a TOML file at once, in words that say what to write instead."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from updraft.config.key_lines import Place, key_places
from updraft.config.toml import tomllib

_MOST_FAULTS = 20
_AT_LINE = re.compile(r" ?\(at line (\d+), column \d+\)$")
_PAIR = re.compile(r"\s*[^\s\[#=][^=]*=")
_BARE = re.compile(r"=\s*([0-9][0-9_.]*\s*[A-Za-zµ%][\w/%]*|[A-Za-z_]\w*)\s*(?=[,}#]|$)")


class SyntaxFault(NamedTuple):
    """What is wrong on a line, counted from 1."""

    line: int
    message: str


def parse_toml(text: str) -> tuple[dict[str, Any], list[SyntaxFault]]:
    """Parse TOML; go on behind a line that is wrong, so that all of them are found at once.

    Returns:
        The values of what could be read, without the lines at fault, and the faults.
    """
    # As the parser counts them.
    lines = text.replace("\r\n", "\n").split("\n")
    faults: list[SyntaxFault] = []
    places: list[Place] = []
    while len(faults) < _MOST_FAULTS:
        try:
            return tomllib.loads("\n".join(lines)), faults
        except RecursionError:
            return {}, [*faults, SyntaxFault(1, "not TOML: nested too deeply")]
        except ValueError as error:
            said = str(error)
        places = places or key_places(text)
        place = _AT_LINE.search(said)
        number = int(place[1]) if place else len(lines)
        wrong = lines[number - 1]
        plain = _advice(wrong, number, places) or (said[: place.start()] if place else said)
        faults.append(SyntaxFault(number, f"not TOML: {plain}"))
        if place is None or not _PAIR.match(wrong):
            return {}, faults
        lines[number - 1] = ""
    said = f"not TOML: {_MOST_FAULTS} such faults; there may be more"
    return {}, [*faults, SyntaxFault(faults[-1].line, said)]


def _advice(wrong: str, number: int, places: list[Place]) -> str:
    """Say in our own words what people mostly do; nothing where it is something else."""
    here = {place.keys for place in places if place.line == number}
    first = [place.line for place in places if place.keys in here and place.line < number]
    if first:
        return f"this is written already in line {first[0]}"
    if bare := _BARE.search(wrong):
        word = bare[1].strip()
        if word.lower() in ("true", "false"):
            return f"write {word.lower()}, in small letters"
        return f'text stands in quotes: write "{word}"'
    return ""
