"""Bundles that come with Updraft."""

from __future__ import annotations

from pathlib import Path

from updraft.models.experts import Family
from updraft.optimizer.gate.gate import Gate

_HERE = Path(__file__).parent


def shipped_bundle() -> Path:
    """Return the folder of the demo bundle, the default wherever a bundle is asked for."""
    return _HERE / "bundles" / "code"


def shipped_family() -> Family:
    """Return the five experts with their gate, held-out prompts and measured quality."""
    return Family(_HERE / "family")


def family() -> dict[str, Path]:
    """Return the bundle folder of each shipped expert, by its name."""
    return shipped_family().bundles()


def family_gate() -> Gate:
    """Return the gate over the shipped experts; it reads text."""
    return shipped_family().gate()
