"""Which Jetson Linux (L4T) and which JetPack a board runs."""

from __future__ import annotations

import re

from updraft.devices.tree import Tree, printable

_RELEASE_FILE = "etc/nv_tegra_release"
_PACKAGES = "var/lib/dpkg/status"

# JetPack is a bundle of packages over an L4T; the longest fitting start counts.
_JETPACKS = {
    "35": "5", "35.1": "5.0.2", "35.2": "5.1", "35.3": "5.1.1", "35.4": "5.1.2", "35.5": "5.1.3",
    "35.6": "5.1.4",
    "36": "6", "36.3": "6.0", "36.4": "6.2", "36.4.0": "6.1", "36.4.3": "6.2", "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "38": "7", "38.2": "7.0", "38.4": "7.1", "39": "7", "39.2": "7.2",
}  # fmt: skip


def read_l4t(tree: Tree) -> str | None:
    """Return the release of Jetson Linux as `36.4.3`; None on other systems."""
    text = tree.text(_RELEASE_FILE)
    if text is None:
        found = _package_version(tree, "nvidia-l4t-core")
        return found.partition("-")[0] if found else None
    match = re.search(r"R(\d+)\s*\(release\),\s*REVISION:\s*([\d.]+)", text)
    if match is None:
        tree.complain(_RELEASE_FILE, f"{text.splitlines()[0][:60]!r} names no release")
        return None
    return f"{match[1]}.{match[2].rstrip('.')}"


def read_jetpack(tree: Tree, l4t: str | None) -> str | None:
    """Return the JetPack version: of the installed package, else the one that goes with an L4T."""
    if l4t is None:
        return None
    if installed := _package_version(tree, "nvidia-jetpack"):
        return installed.partition("+")[0].partition("-")[0]
    parts = l4t.split(".")
    starts = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((_JETPACKS[start] for start in starts if start in _JETPACKS), None)


def _package_version(tree: Tree, name: str) -> str | None:
    # Megabytes: only what is found in it is cleaned.
    text = tree.content(_PACKAGES) or ""
    match = re.search(
        rf"^Package: {re.escape(name)}\r?\n(?:.+\n)*?Version: (\S+)", text, re.MULTILINE
    )
    return printable(match[1]) if match else None
