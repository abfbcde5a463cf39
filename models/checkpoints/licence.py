"""What a checkpoint's files say of its licence."""

from __future__ import annotations

import re
from pathlib import Path

_MAX_BYTES = 1 << 16
_KEY = re.compile(r"^license(?:_name)?:\s*[\"']?([\w.+-]{1,60})[\"']?\s*$", re.MULTILINE)


def find_licence(folder: Path) -> str | None:
    """Return the licence that the model card's header names, or the title of a LICENSE file."""
    card = _start(folder / "README.md")
    if card.startswith("---"):
        header = card[3:].partition("\n---")[0]
        names = [name for name in _KEY.findall(header) if name != "other"]
        if names:
            return str(names[-1])
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md"):
        lines = [line.strip(" #*\t") for line in _start(folder / name).splitlines()]
        titles = [line for line in lines if line]
        if titles:
            return titles[0][:80]
    return None


def _start(path: Path) -> str:
    """Return the start of a text file; nothing, if there is none that can be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode(errors="replace")
    except OSError:
        return ""
