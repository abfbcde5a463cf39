"""A bundle in the making, which survives that its making is interrupted."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from updraft.errors import BundleError, RequestError
from updraft.models.bundle import describe_files
from updraft.models.manifest import FileEntry

JOURNAL = "import.json"
_LOCK = "import.lock"
_SUFFIX = ".import"


class Draft:
    """A folder beside the bundle's, with the steps that are done.

    It belongs to one plan and one checkpoint; for others it is begun anew.

    Attributes:
        folder: where files are written.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self._key = key
        self._steps = self._read()
        for step in [step for step in self._steps if not self.is_done(step)]:
            del self._steps[step]
        # What a step was writing when it was interrupted, it writes anew.
        kept = {_LOCK, *self.files}
        for path in self.folder.iterdir():
            if path.name not in kept:
                path.unlink()
        self._save()

    @property
    def files(self) -> dict[str, FileEntry]:
        """All files that were written, with sizes and hashes."""
        return {name: entry for step in self._steps.values() for name, entry in step.items()}

    def is_done(self, step: str) -> bool:
        """Return whether a step's files are there."""
        entries = self._steps.get(step)
        return entries is not None and all(
            (self.folder / name).is_file() and (self.folder / name).stat().st_size == entry.bytes
            for name, entry in entries.items()
        )

    def do(self, step: str, work: Callable[[Path], list[str]]) -> None:
        """Let a step write its files and remember them, unless it is done."""
        if self.is_done(step):
            return
        written = work(self.folder)
        # Graphs may share files of weights: who came first has described them.
        new = [name for name in written if name not in self.files]
        self._steps[step] = describe_files(self.folder, new)
        self._save()

    def finish(self, output: Path) -> None:
        """Give the folder its name."""
        (self.folder / JOURNAL).unlink(missing_ok=True)
        (self.folder / _LOCK).unlink(missing_ok=True)
        self.folder.replace(output)

    def _read(self) -> dict[str, dict[str, FileEntry]]:
        """Return the steps that an earlier call did for the same key."""
        try:
            found = json.loads((self.folder / JOURNAL).read_bytes())
            if found["key"] != self._key:
                return {}
            return {
                step: {name: FileEntry.model_validate(entry) for name, entry in entries.items()}
                for step, entries in found["steps"].items()
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return {}

    def _save(self) -> None:
        steps = {
            step: {name: entry.model_dump() for name, entry in entries.items()}
            for step, entries in self._steps.items()
        }
        temporary = self.folder / f"{JOURNAL}.tmp"
        temporary.write_text(json.dumps({"key": self._key, "steps": steps}, indent=1))
        temporary.replace(self.folder / JOURNAL)


@contextmanager
def open_draft(output: Path, key: str) -> Iterator[Draft]:
    """Open the draft of a bundle, for one process at a time.

    It stays where the process is interrupted, and goes where the input is at fault.

    Args:
        key: what the draft belongs to.

    Raises:
        BundleError: the bundle is there already, another process makes it, or it cannot be
            written.
    """
    if output.exists():
        raise BundleError(f"{output}: exists already; remove it or choose another --output")
    folder = output.with_name(output.name + _SUFFIX)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / _LOCK).open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BundleError(f"{folder}: another import is writing it; wait for it") from error
            try:
                yield Draft(folder, key)
            except (BundleError, RequestError):
                shutil.rmtree(folder, ignore_errors=True)
                raise
    except OSError as error:
        raise BundleError(
            f"{folder}: cannot be written: {error.strerror or error}; what is done is kept, call "
            "again to go on"
        ) from error
