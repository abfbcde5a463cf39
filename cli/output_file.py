"""Files that a command writes: whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from updraft.errors import RequestError


def check_folder_of(path: Path) -> None:
    """Refuse a place to write to before work is done for it.

    Raises:
        RequestError: its folder does not exist, or it is a folder itself.
    """
    if not path.parent.is_dir():
        raise RequestError(f"{path}: cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise RequestError(f"{path}: cannot be written: it is a folder")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file beside `path`, then give it that name.

    Raises:
        RequestError: the file cannot be written.
    """
    half = path.with_name(f".{path.stem}.half{path.suffix}")
    try:
        write(half)
        half.replace(path)
    except OSError as error:
        raise RequestError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        half.unlink(missing_ok=True)
