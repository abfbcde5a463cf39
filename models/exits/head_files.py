"""Which exits of a bundle share a head's graph, and which tokens each graph chooses among."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from updraft.models.bundle import DATA_SUFFIX
from updraft.models.manifest import ExitEntry

HEAD = "head.onnx"
EDGE_HEAD = "head-exits.onnx"
SHORTLIST = "shortlist.i32"


@dataclass(frozen=True)
class HeadFile:
    """A head's graph.

    Attributes:
        layers: of the exits that share it, in the order of its rows.
        shortlist: the file with the tokens that it chooses among; None: the whole vocabulary.
    """

    file: str
    layers: tuple[int, ...]
    shortlist: str | None

    def entries(self) -> list[ExitEntry]:
        """Return what a manifest says of these exits."""
        return [
            ExitEntry(layer=layer, head=self.file, index=index, shortlist=self.shortlist)
            for index, layer in enumerate(self.layers)
        ]


def head_files(
    edge: Sequence[int], top: int, own: Collection[int], *, shortlisted: bool
) -> list[HeadFile]:
    """Return the graphs for the exits on the edge and the full depth.

    Args:
        edge: layers of the exits on the edge.
        top: the full depth, which always chooses among the whole vocabulary.
        own: layers of the exits that have an output matrix of their own.
        shortlisted: the exits on the edge choose among a shortlist.
    """
    chosen = SHORTLIST if shortlisted else None
    sharing = tuple(layer for layer in edge if layer not in own)
    files = [HeadFile(f"head-{layer}.onnx", (layer,), chosen) for layer in edge if layer in own]
    if not shortlisted:
        return [*files, HeadFile(HEAD, (*sharing, top), None)]
    if sharing:
        files.append(HeadFile(EDGE_HEAD, sharing, chosen))
    return [*files, HeadFile(HEAD, (top,), None)]


def replacing(
    exits: Sequence[ExitEntry], layers: Collection[int], *, shortlisted: bool
) -> HeadFile:
    """Return the graph that some exits of a bundle get in place of the one they have.

    Its files have names that no other exit of the bundle uses.
    """
    kept = [entry for entry in exits if entry.layer not in layers]
    used = {entry.head for entry in kept} | {entry.shortlist for entry in kept}
    chosen = _free(SHORTLIST, used) if shortlisted else None
    return HeadFile(_free(EDGE_HEAD, used), tuple(sorted(layers)), chosen)


def left_over(exits: Sequence[ExitEntry], layers: Collection[int]) -> set[str]:
    """Return the files of heads that nothing uses any more once some exits get another graph."""
    kept = [entry for entry in exits if entry.layer not in layers]
    used = {entry.head for entry in kept} | {entry.shortlist for entry in kept}
    named = {entry.head for entry in exits} | {e.shortlist for e in exits if e.shortlist}
    gone = named - used
    return gone | {Path(name).stem + DATA_SUFFIX for name in gone if name.endswith(".onnx")}


def write_shortlist(path: Path, shortlist: NDArray[np.int32]) -> None:
    """Write the tokens of a shortlist."""
    path.write_bytes(shortlist.astype("<i4").tobytes())


def _free(name: str, used: Collection[str | None]) -> str:
    stem, suffix = Path(name).stem, Path(name).suffix
    names = (name, *(f"{stem}-{number}{suffix}" for number in range(2, len(used) + 3)))
    return next(free for free in names if free not in used)
