"""Options that several commands have, with the same words in each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from updraft.errors import RequestError

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Catalog = Annotated[
    Path | None,
    typer.Option(help="TOML file, or a folder of them, with devices over those that ship."),
]


def shortlist_size(text: str) -> int | None:
    """Return the tokens of a shortlist that are asked for; None: to be chosen.

    Raises:
        RequestError: it is neither a number nor a word that means one.
    """
    if text == "auto":
        return None
    if text == "all":
        return 1 << 24
    if not text.isdecimal() or not 0 < int(text) <= 1 << 24:
        raise RequestError(f"shortlist {text!r}: a number of tokens, all, or auto is expected")
    return int(text)
