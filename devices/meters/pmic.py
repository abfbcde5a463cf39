"""Raspberry Pi 5: its power controller measures most rails; the firmware's tool reads it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from updraft.devices.catalog.device import MeterKind
from updraft.errors import ProbeError

TOOL = "usr/bin/vcgencmd"
_TIMEOUT_S = 1.0
_LINE = re.compile(
    r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=(-?\d+\.?\d*)[AV]\s*$", re.MULTILINE
)
# The rails are not the whole board: a line fitted to a meter at the plug.
# Source: design notes of the project, from published measurements of the board.
_SLOPE, _OFFSET_W = 1.1451, 0.5879


class Pmic:
    """Watts of a Raspberry Pi 5, from the rails of its power controller.

    Every reading starts a process of a millisecond, so it is read less often than the others.

    Raises:
        ProbeError: the tool is there but says nothing useful.
    """

    kind: MeterKind = "pi5-pmic"
    counts = False
    most_w = 60.0
    fastest_hz = 5.0  # ten times a second would take more than 1% of a core

    def __init__(self, root: Path) -> None:
        self._tool = root / TOOL
        rails = self._rails()
        self.rail = (
            f"{len(rails)} rails of the power controller, scaled to the board by "
            f"{_SLOPE:g}·W + {_OFFSET_W:g} W"
        )

    @classmethod
    def there(cls, root: Path) -> bool:
        """Say whether the tool is installed."""
        return os.access(root / TOOL, os.X_OK)

    def read(self) -> float:
        return _SLOPE * sum(self._rails()) + _OFFSET_W

    def close(self) -> None:
        """Nothing is held."""

    def _rails(self) -> list[float]:
        """Return the watts of every rail whose volts and amperes are both there."""
        try:
            done = subprocess.run(
                [self._tool, "pmic_read_adc"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError) as error:
            raise ProbeError(f"{self._tool} pmic_read_adc: {error}") from error
        values = {(name, unit): float(value) for name, unit, value in _LINE.findall(done.stdout)}
        rails = [
            volts * values[name, "A"]
            for (name, unit), volts in values.items()
            if unit == "V" and (name, "A") in values
        ]
        if done.returncode or not rails:
            said = (done.stderr or done.stdout).strip().split("\n")[0] or "nothing"
            raise ProbeError(
                f"{self._tool} pmic_read_adc says {said!r}: it needs a Raspberry Pi 5, and a user "
                "in the group `video`"
            )
        return rails
