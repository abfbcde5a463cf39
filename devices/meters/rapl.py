"""RAPL: energy counters of Intel and AMD processors; they wrap around, and are for root."""

from __future__ import annotations

from pathlib import Path

from updraft.devices.catalog.device import MeterKind
from updraft.devices.meters.sensor import NumberFile
from updraft.errors import ProbeError

ZONES = "sys/class/powercap"
_REMEDY = (
    "only root may read it: run the agent as root, or let its group read it by the udev rule in "
    "docs/energy.md"
)


class Counter:
    """A counter of whole units that starts again at 0 after `range_units`.

    A reading below the last is one turn more. Two turns between two readings would go unseen; at
    10 readings a second that would take megawatts.
    """

    def __init__(self, first: int, range_units: int) -> None:
        self._range = range_units
        self._last = first
        self._sum = 0

    def advance(self, value: int) -> int:
        """Take a reading; return the units since the first.

        Raises:
            ProbeError: the reading is negative or beyond the range.
        """
        if not 0 <= value <= self._range:
            raise ProbeError(f"the counter says {value}, which is not within 0 to {self._range}")
        self._sum += (value - self._last) % (self._range + 1)
        self._last = value
        return self._sum


class Rapl:
    """Joules of all processor packages, and of their memory where it is counted apart.

    Raises:
        ProbeError: zones are there but cannot be read.
    """

    kind: MeterKind = "rapl"
    counts = True
    most_w = 5000.0
    fastest_hz = 50.0

    def __init__(self, root: Path) -> None:
        zones = _zones(root)
        self.rail = " + ".join(zones) + ", without the rest of the host"
        self._zones: list[tuple[NumberFile, Counter]] = []
        try:
            for folder in zones.values():
                range_file = NumberFile(folder / "max_energy_range_uj", _REMEDY)
                range_uj = range_file.read()
                range_file.close()
                file = NumberFile(folder / "energy_uj", _REMEDY)
                self._zones.append((file, Counter(file.read(), range_uj)))
        except ProbeError:
            self.close()
            raise

    @classmethod
    def there(cls, root: Path) -> bool:
        """Say whether a host has such counters."""
        return bool(_zones(root))

    def read(self) -> float:
        return sum(counter.advance(file.read()) for file, counter in self._zones) * 1e-6

    def close(self) -> None:
        for file, _ in self._zones:
            file.close()


def _zones(root: Path) -> dict[str, Path]:
    """Return the zones to add up: packages, and `dram`, which a package does not hold.

    `core` and `uncore` are inside a package; `psys` holds packages and would count them twice.
    """
    found: dict[str, Path] = {}
    for folder in sorted((root / ZONES).glob("intel-rapl:*")):
        package = folder.name.count(":") == 1
        try:
            name = (folder / "name").read_text().strip()
        except OSError:
            continue
        if package and name.startswith("package"):
            found[name] = folder
        elif not package and name == "dram":
            found[f"dram of {folder.name}"] = folder
    return found
