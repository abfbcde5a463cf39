"""Records of CSV files, read one by one, within limits on all that grows."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from updraft.cli.input_file import MEBIBYTE, open_input, too_large
from updraft.errors import ProblemError

_MOST_BYTES = 256 * MEBIBYTE
_MOST_LINE_BYTES = 4 * MEBIBYTE
_MOST_EMPTY_LINES = 1000


def read_records(path: Path, advice: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each record with the line that it begins in; empty lines are passed over.

    Args:
        advice: what to do about a file that is too large.

    Raises:
        ProblemError: with the line of what is no CSV, no UTF-8, or too long.
    """
    reader = csv.reader(_lines(path, advice), strict=True)
    line, empty = 1, 0
    try:
        for row in reader:
            if row:
                yield line, row
            elif (empty := empty + 1) > _MOST_EMPTY_LINES:
                most = f"more than {_MOST_EMPTY_LINES:,} empty lines"
                raise ProblemError([f"{path}:{line}: {most}; is this CSV?"])
            line = reader.line_num + 1
    except csv.Error as error:
        raise ProblemError([f"{path}:{line}: not CSV: {error}"]) from error


def _lines(path: Path, advice: str) -> Iterator[str]:
    with open_input(path, _MOST_BYTES, advice) as stream:
        left, number = _MOST_BYTES, 0
        while line := stream.readline(_MOST_LINE_BYTES):
            number += 1
            left -= len(line)
            if left < 0:
                raise too_large(path, "what follows", _MOST_BYTES, advice)
            if len(line) == _MOST_LINE_BYTES:
                most = f"{_MOST_LINE_BYTES // MEBIBYTE} MiB"
                raise ProblemError([f"{path}:{number}: a line of {most} or more; is this CSV?"])
            if b"\0" in line:
                raise ProblemError([f"{path}:{number}: a zero byte; this is no text"])
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                place = f"{path}:{number}: byte {error.start + 1}"
                raise ProblemError([f"{place} is not valid UTF-8"]) from error
