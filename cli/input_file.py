"""Files that people hand over: opened, and refused where they are too large."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from updraft.errors import ProblemError

MEBIBYTE = 1 << 20


def open_input(path: Path, most_bytes: int, advice: str) -> BinaryIO:
    """Open a file to be read, unless it is larger than allowed.

    Args:
        advice: what to do about a file that is too large.

    Raises:
        ProblemError: naming the file and both sizes, or why it cannot be read.
    """
    try:
        stream = path.open("rb")
    except (OSError, ValueError) as error:
        # A name with a NUL is a ValueError.
        reason = error.strerror if isinstance(error, OSError) else error
        raise ProblemError([f"{path}: cannot be read: {reason}"]) from error
    found = os.fstat(stream.fileno()).st_size
    if found > most_bytes:
        stream.close()
        raise too_large(path, f"{found / MEBIBYTE:,.0f} MiB", most_bytes, advice)
    return stream


def too_large(path: Path, found: str, most_bytes: int, advice: str) -> ProblemError:
    """Return the error of a file that is larger than allowed."""
    most = f"{most_bytes // MEBIBYTE} MiB"
    return ProblemError([f"{path}: {found} is too large, {most} are read at most: {advice}"])
