"""Configuration: TOML and environment variables into checked, frozen models."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from updraft.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class Section(BaseModel):
    """Base of every configuration model: frozen, and unknown keys are faults."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SectionT = TypeVar("SectionT", bound=Section)


def load_config(
    schema: type[SectionT], path: Path | None, environment: Mapping[str, str], prefix: str
) -> SectionT:
    """Read a configuration file, let environment variables override it, and check it.

    `PREFIX__SECTION__KEY=value` overrides `key` of `[section]`.

    Args:
        path: a TOML file; `None` takes the defaults.
        environment: usually `os.environ`; an argument so that library code never reads it.

    Raises:
        ConfigError: with every fault: file, line, key, and what to write instead.
    """
    text = ""
    values: dict[str, Any] = {}
    if path is not None:
        text, values = _read(path)
    origin = _apply_environment(values, environment, prefix)
    try:
        return schema.model_validate(values)
    except ValidationError as error:
        faults = []
        for fault in error.errors():
            keys = [str(key) for key in fault["loc"]]
            where = origin.get(tuple(keys)) or _place(path, text, keys)
            faults.append(f"{where}: {'.'.join(keys)}: {_explain(schema, keys, fault)}")
        raise ConfigError(faults) from error


def override(settings: SectionT, options: Mapping[str, Any]) -> SectionT:
    """Return settings with a command's options in place; an option that is `None` was not given.

    Args:
        options: value by key, as `cloud.address`.
    """
    for name, value in options.items():
        if value is not None:
            settings = _replaced(settings, name.split("."), value)
    return settings


def _replaced(section: SectionT, keys: list[str], value: Any) -> SectionT:
    key, *deeper = keys
    if deeper:
        value = _replaced(getattr(section, key), deeper, value)
    return section.model_copy(update={key: value})


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    except ValueError as error:
        raise ConfigError([f"{path}: not TOML: {error}"]) from error


def _apply_environment(
    values: dict[str, Any], environment: Mapping[str, str], prefix: str
) -> dict[tuple[str, ...], str]:
    origin: dict[tuple[str, ...], str] = {}
    for name, value in environment.items():
        if not name.startswith(prefix + "__"):
            continue
        keys = name[len(prefix) + 2 :].lower().split("__")
        section = values
        for key in keys[:-1]:
            section = section.setdefault(key, {})
            if not isinstance(section, dict):
                raise ConfigError([f"environment variable {name}: {key!r} is a value, no section"])
        section[keys[-1]] = value
        origin[tuple(keys)] = f"environment variable {name}"
    return origin


def _place(path: Path | None, text: str, keys: list[str]) -> str:
    """Name the file and, where the key stands in it, the line."""
    section, wanted = "", ".".join(keys[:-1])
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            section = header[1].strip()
            if section == ".".join(keys):
                return f"{path}:{number}"
        elif keys and section == wanted and re.match(rf"\s*{re.escape(keys[-1])}\s*=", line):
            return f"{path}:{number}"
    return str(path) if path else "defaults"


def _explain(schema: type[BaseModel], keys: list[str], fault: Any) -> str:
    if fault["type"] != "extra_forbidden":
        return f"{fault['msg']}, found {fault['input']!r}"
    known = _keys_beside(schema, keys)
    close = difflib.get_close_matches(keys[-1], known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"
    return f"unknown key; {hint}"


def _keys_beside(schema: type[BaseModel], keys: list[str]) -> list[str]:
    for key in keys[:-1]:
        field = schema.model_fields.get(key)
        kinds = [] if field is None else [field.annotation, *get_args(field.annotation)]
        sections = [k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel)]
        if not sections:
            return []
        schema = sections[0]
    return list(schema.model_fields)
