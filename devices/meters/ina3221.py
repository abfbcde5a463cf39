"""INA3221: the power monitors of the Jetson modules, rail by rail, without an energy counter."""

from __future__ import annotations

from pathlib import Path

from updraft.devices.catalog.device import MeterKind
from updraft.devices.meters.sensor import NumberFile
from updraft.errors import ProbeError

CHIPS = "sys/bus/i2c/drivers/ina3221"
_CHANNELS = (1, 2, 3)  # in4 to in6 are shunt voltages and in7 is their sum: no rails
_TOTAL = "VDD_IN"
_UNCONNECTED = ("", "NC")
# Fed by VIN_SYS_5V0, whose reading holds it already.
_INSIDE_ANOTHER = ("VDDQ_VDD2_1V8AO",)
_REMEDY = "let the agent's user read it (chmod a+r), or run as root"


class Ina3221:
    """Watts of a Jetson module: its total where there is a rail of it, else the sum of the rails.

    Raises:
        ProbeError: chips are there but no rail of them can be read.
    """

    kind: MeterKind = "ina3221"
    counts = False
    most_w = 200.0
    fastest_hz = 50.0

    def __init__(self, root: Path) -> None:
        rails, faults = _rails(root)
        if _TOTAL in rails:
            rails = {_TOTAL: rails[_TOTAL]}
            self.rail = f"{_TOTAL}, the module's total"
        else:
            names = " + ".join(rails)
            self.rail = f"sum of {names}, as the board has no rail of its total"
            if faults:
                self.rail += f"; left out: {'; '.join(faults)}"
        if not rails:
            raise ProbeError("; ".join(faults) or f"{root / CHIPS}: no rail has a name")
        self._rails = [_open(folder, channel) for folder, channel in rails.values()]

    @classmethod
    def there(cls, root: Path) -> bool:
        """Say whether a board has such chips."""
        return any((root / CHIPS).glob("*/hwmon/hwmon*"))

    def read(self) -> float:
        # mV and mA; a current of almost nothing may read as slightly negative.
        return sum(volts.read() * amperes.read() for volts, amperes in self._rails) * 1e-6

    def close(self) -> None:
        for volts, amperes in self._rails:
            volts.close()
            amperes.close()


def _rails(root: Path) -> tuple[dict[str, tuple[Path, int]], list[str]]:
    """Return folder and channel of every rail that can be read, and why others cannot."""
    rails: dict[str, tuple[Path, int]] = {}
    faults: list[str] = []
    for folder in sorted((root / CHIPS).glob("*/hwmon/hwmon*")):
        for channel in _CHANNELS:
            try:
                label = (folder / f"in{channel}_label").read_text().strip()
            except OSError:
                continue  # the channel is switched off in the device tree
            if label in _UNCONNECTED or label in _INSIDE_ANOTHER:
                continue
            try:
                volts, amperes = _open(folder, channel)
                try:
                    volts.read()
                    amperes.read()
                finally:
                    volts.close()
                    amperes.close()
            except ProbeError as error:
                faults.append(f"{label}: {error}")
            else:
                rails[label] = (folder, channel)
    return rails, faults


def _open(folder: Path, channel: int) -> tuple[NumberFile, NumberFile]:
    volts = NumberFile(folder / f"in{channel}_input", _REMEDY)
    try:
        return volts, NumberFile(folder / f"curr{channel}_input", _REMEDY)
    except ProbeError:
        volts.close()
        raise
