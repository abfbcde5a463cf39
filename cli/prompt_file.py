"""Prompt files: JSON lines, each an object with a `prompt`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from updraft.errors import RequestError


def read_prompts(path: Path) -> Iterator[str]:
    """Read the prompts of a file; blank lines are passed over, other keys ignored.

    Raises:
        RequestError: naming the file, the line and what is wrong with it.
    """
    for number, record in read_rows(path):
        if not isinstance(record.get("prompt"), str):
            raise RequestError(f'{path}:{number}: an object with a text "prompt" is expected')
        yield record["prompt"]


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the objects of a file of JSON lines, each with the number of its line.

    Raises:
        RequestError: naming the file, the line and what is wrong with it.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode())
        except UnicodeDecodeError as error:
            raise RequestError(f"{path}:{number}: not valid UTF-8") from error
        except (ValueError, RecursionError) as error:
            raise RequestError(f"{path}:{number}: not JSON: {error}") from error
        if not isinstance(record, dict):
            raise RequestError(f'{path}:{number}: an object with a text "prompt" is expected')
        yield number, record
