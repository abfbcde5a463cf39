"""Bundles that come with Updraft."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent / "bundles"


def shipped_bundle() -> Path:
    """Return the folder of the demo bundle, the default wherever a bundle is asked for."""
    return _FOLDER / "code"
