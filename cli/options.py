"""Options that several commands have, with the same words in each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Catalog = Annotated[
    Path | None,
    typer.Option(help="TOML file, or a folder of them, with devices over those that ship."),
]
