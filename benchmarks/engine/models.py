"""Converts one checkpoint for every contender, and keeps what is made for the next run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from updraft.benchmarks.engine.checkpoint import write_checkpoint
from updraft.benchmarks.engine.contenders import Contender
from updraft.benchmarks.engine.plan import SEED
from updraft.benchmarks.engine.shapes import Shape
from updraft.benchmarks.engine.worker import RuntimeFailed, call, own_python
from updraft.benchmarks.measures.report import write

_LIMIT_S = 900.0
_VERSIONS_LIMIT_S = 60.0
_RECORD = "conversion.json"


@dataclass(frozen=True)
class Model:
    """A converted model.

    Attributes:
        weight_bytes: of weights that one decoded token reads.
    """

    folder: Path
    weight_bytes: int


class Workshop:
    """A folder of checkpoints and converted models, and the Pythons that make and run them.

    Args:
        rivals_python: which has the other runtimes, or those of them that are installed.
    """

    def __init__(self, folder: Path, rivals_python: Path) -> None:
        self._folder = folder
        self._rivals_python = rivals_python
        self._versions: dict[str, dict[str, str] | None] = {}
        self._made: set[Path] = set()

    def python(self, contender: Contender) -> Path:
        """Return the Python that a contender runs in."""
        return own_python() if contender.is_ours else self._rivals_python

    def log(self, shape: Shape, contender: Contender, what: str) -> Path:
        """Return the file for what a contender's process writes to its standard error."""
        run = contender.options.get("run", "")
        return self._folder / "logs" / f"{shape.name}-{contender.model}{run}-{what}.log"

    def versions(self, contender: Contender) -> dict[str, str] | None:
        """Return the packages of a contender with their versions; None: not installed."""
        if contender.runtime not in self._versions:
            log = self._folder / "logs" / f"{contender.runtime}-versions.log"
            arguments = ["versions", contender.runtime]
            try:
                found = call(self.python(contender), arguments, log, _VERSIONS_LIMIT_S)
            except RuntimeFailed:
                found = None
            self._versions[contender.runtime] = found
        return self._versions[contender.runtime]

    def convert(self, shape: Shape, contender: Contender) -> Model:
        """Convert, unless the same was made before; ours is made anew once a run.

        Raises:
            RuntimeFailed: the runtime's converter does not take the checkpoint.
        """
        checkpoint = write_checkpoint(self._folder / shape.name / "checkpoint", shape, SEED)
        folder = checkpoint.with_name(contender.model)
        record = folder.with_name(f"{contender.model}.{_RECORD}")
        options = {
            **contender.conversion,
            "split": shape.split,
            "context_length": shape.context_length,
        }
        wanted = {"shape": asdict(shape), "options": options, "by": self.versions(contender)}
        is_fresh = not contender.is_ours or folder in self._made
        if is_fresh and (kept := _kept(record, folder, wanted)) is not None:
            return Model(folder, kept)
        self._made.add(folder)
        record.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        done = call(
            self.python(contender),
            [
                "convert", contender.runtime, str(checkpoint), str(folder),
                json.dumps(options),
            ],
            self.log(shape, contender, "convert"),
            _LIMIT_S,
        )  # fmt: skip
        write(record, json.dumps({"of": wanted, "weight_bytes": done["weight_bytes"]}))
        return Model(folder, done["weight_bytes"])


def _kept(record: Path, folder: Path, wanted: Mapping[str, Any]) -> int | None:
    if not (record.is_file() and folder.is_dir()):
        return None
    found = json.loads(record.read_text())
    return int(found["weight_bytes"]) if found["of"] == wanted else None
