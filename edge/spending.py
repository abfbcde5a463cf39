"""From a configured budget to the governor that keeps it."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from updraft.devices.budgets.budget import Budget
from updraft.devices.budgets.costs import Costs
from updraft.devices.budgets.expectation import Coordinator
from updraft.devices.budgets.ledger import Ledger
from updraft.devices.budgets.point import OperatingPoint
from updraft.devices.budgets.points import operating_points, switchable
from updraft.devices.budgets.read import read_budgets
from updraft.devices.catalog.device import Device
from updraft.devices.catalog.entries import find, load_catalog
from updraft.devices.power import PowerControl
from updraft.devices.probe import identify
from updraft.edge.config import BudgetConfig, EdgeConfig
from updraft.edge.engine import Engine
from updraft.edge.exit_quality import exit_quality
from updraft.edge.governor import Governor, Limits
from updraft.errors import ConfigError, ProbeError
from updraft.models.workload import workload_of

# What operating points are predicted for; other lengths follow from it.
PROMPT_TOKENS, NEW_TOKENS = 64, 64
# A device that the catalog does not know starts from this entry; measurements correct it.
_UNKNOWN = "x86"
_STATE = Path("~/.local/state/updraft")


def read_budget(config: EdgeConfig) -> Budget | None:
    """Return what limits this device; None where nothing is configured.

    Raises:
        ConfigError: with every fault of the budget file; or a device is named, and no file.
    """
    own = config.budget
    if own.file is None and own.device is not None:
        raise ConfigError(
            [
                f"budget.device = {own.device!r} names a device of a file of budgets, and there "
                "is none: give --budget FILE, or file under [budget]"
            ]
        )
    if own.file is None:
        return None
    file = read_budgets(own.file, load_catalog(config.catalog))
    return file.budget(own.device or socket.gethostname())


@contextmanager
def governed(
    engine: Engine,
    config: EdgeConfig,
    budget: Budget | None,
    root: Path = Path("/"),
    clock: Callable[[], float] = time.time,
) -> Iterator[Governor | None]:
    """Keep a budget for as long as an engine serves.

    Args:
        root: of the system's files: says what device this is, and whether its clocks can be set.
        clock: seconds since 1970.
    """
    if budget is None:
        yield None
        return
    device = _device(budget, root, config.catalog)
    power = _power(device, root)
    points = make_points(engine, config, device, power)
    ledger = Ledger(
        _ledger_path(config.budget, budget),
        clock,
        _since_boot if clock is time.time else None,
        _window_s(budget),
    )
    own = config.budget
    governor = Governor(
        budget,
        ledger,
        points,
        Costs(PROMPT_TOKENS, NEW_TOKENS),
        engine.meter.idle_w or device.idle_w,
        Limits(own.queue_length, own.queue_wait_s, own.on_ledger_fault),
        power,
    )
    try:
        yield governor
    finally:
        governor.close()


def make_points(
    engine: Engine, config: EdgeConfig, device: Device, power: PowerControl | None
) -> list[OperatingPoint]:
    """Return the ways in which an engine can work, from the best to the cheapest.

    Mode `cloud` is not among them: it saves the device's energy at the cost of the coordinator's,
    so a request has to ask for it.
    """
    whole = engine.model.top == engine.bundle.manifest.architecture.layers
    modes = ["standalone", *(["full"] if whole else [])]
    coordinator = None
    if engine.link is not None:
        modes.append("lossless")
        coordinator = _coordinator(engine, config)
    return operating_points(
        device,
        workload_of(engine.bundle),
        prompt_tokens=PROMPT_TOKENS,
        new_tokens=NEW_TOKENS,
        agreement=exit_quality(engine),
        modes=modes,
        power_modes=switchable(device) if power is not None else [device.default_mode],
        coordinator=coordinator,
    )


def _coordinator(engine: Engine, config: EdgeConfig) -> Coordinator:
    way = engine.pilot.way()
    return Coordinator(
        round_trip_ms=1e3 * way.round_trip_s,
        uplink_bytes_per_s=way.uplink_bytes_s,
        token_ms=1e3 * engine.pilot.upper_s,
        position_ms=1e3 * engine.pilot.upper_s / 8,
        codec=config.decoding.wire,
    )


def _device(budget: Budget, root: Path, own_devices: Path | None) -> Device:
    catalog = load_catalog(own_devices)
    return find(catalog, budget.model or identify(root, catalog).device or _UNKNOWN)


def _power(device: Device, root: Path) -> PowerControl | None:
    """Return what changes the device's clocks; None where nothing here can."""
    if device.family != "jetson":
        return None
    control = PowerControl(root)
    try:
        control.current()
    except ProbeError:
        return None
    return control


def _ledger_path(config: BudgetConfig, budget: Budget) -> Path:
    if config.ledger is not None:
        return config.ledger.expanduser()
    return (_STATE / f"ledger-{budget.device}.sqlite").expanduser()


def _window_s(budget: Budget) -> float:
    line = budget.lines.get("average_power")
    return 60.0 if line is None or line.window_s is None else line.window_s


def _since_boot() -> float:
    """Seconds that pass while the machine sleeps, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
