"""What a certificate states, read with suspicion: nonsense is refused, and never an exception."""

from __future__ import annotations

import re
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn

from updraft.optimizer.certificates.check_document import Asked

_RATIONAL = re.compile(r"[0-9]{1,300}(/0{0,300}[1-9][0-9]{0,299})?")


class Refused(Exception):
    def __init__(self, reason: str, path: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path


def refuse(reason: str, path: str = "") -> NoReturn:
    raise Refused(reason, path)


def show(number: Fraction) -> str:
    # A float alone would not take what is beyond 1e308.
    return f"{float(Decimal(number.numerator) / Decimal(number.denominator)):.10g}"


def above(worth: Fraction, upper_bound: Fraction) -> str:
    return f"is {show(worth)}, which is {show(worth - upper_bound)} above upper_bound"


def quoted(given: Any) -> str:
    """Show what was given without a walk through all of it."""
    return repr(given[:60]) if isinstance(given, str) else f"a value of type {type(given).__name__}"


def rational(given: Any, name: str) -> Fraction:
    if not isinstance(given, str) or not _RATIONAL.fullmatch(given):
        refuse(f'{name} must be written "p/q", whole and not negative, not {quoted(given)}')
    return Fraction(given)


def listed(given: Any, name: str) -> list[Any]:
    if not isinstance(given, list):
        refuse(f"{name} must be a list")
    return given


def experts_of(asked: Asked, given: Any, name: str) -> list[int]:
    """Return indices of experts, each named once."""
    made = []
    for one in listed(given, name):
        if not isinstance(one, str) or one not in asked.experts:
            refuse(f"{name}: there is no expert {quoted(one)}")
        made.append(asked.experts[one])
    if len(set(made)) < len(made):
        refuse(f"{name}: an expert is named twice")
    return made
