"""What a device has spent: counted in memory, kept on disk, whatever becomes of disk and clock."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from updraft.devices.budgets.clock import SET_S, WatchedClock
from updraft.devices.budgets.entry import DAY_S, Entry, Totals, day_of
from updraft.devices.budgets.ledger_file import KEPT_DAYS, LedgerFile
from updraft.devices.budgets.rolling import RollingSum
from updraft.errors import LedgerError

HOUR_S = 3600.0
_RETRY_S = 1.0
# While the disk refuses, so many records wait in memory to be written.
_MOST_WAITING = 10_000

_log = logging.getLogger(__name__)


class Standing(NamedTuple):
    """What was spent, at one moment.

    Attributes:
        today: what counts for the budget day.
        window_j: joules above idle in the power window.
        hour_cloud_tokens: in the last hour.
    """

    now: float
    today: Totals
    window_j: float
    hour_cloud_tokens: float


class Ledger:
    """Records requests and says what was spent today, in the last hour, in the power window.

    A budget day is a day in UTC, by the device's clock. Setting the clock never lowers what
    counts as spent today: the day that it lands on counts at least what the day before the jump
    did. Where the disk refuses, records wait in memory and `fault` says why; nothing that was
    written before is lost.

    Args:
        path: of the file; None keeps nothing beyond this process.
        clock: seconds since 1970.
        steady: seconds that pass even while the machine sleeps and that nobody sets; None: a
            clock that is set forward looks like time that passed.
        window_s: over which power is averaged.

    Attributes:
        window_s: as given.
        fault: why records are not on disk; None while all are.
        warning: what happened to the clock or the file last; None: nothing did.
    """

    def __init__(
        self,
        path: Path | None,
        clock: Callable[[], float],
        steady: Callable[[], float] | None = None,
        window_s: float = 60.0,
    ) -> None:
        self.path = path
        self.window_s = window_s
        self.fault: str | None = None
        self.warning: str | None = None
        self._clock = WatchedClock(clock, steady)
        self._file: LedgerFile | None = None
        self._version = 0
        self._lock = threading.Lock()  # of everything in memory; held for microseconds
        self._file_lock = threading.RLock()  # of the file; held while the disk works
        self._waiting: dict[str, tuple[int, Entry]] = {}
        self._power = RollingSum(window_s)
        self._cloud = RollingSum(HOUR_S)
        self._now = self._clock.read().now
        self._day = day_of(self._now)
        self._today = Totals()
        self._given_up = 0
        self._tried_at = self._now
        self._landed = False  # the clock was set, and the file has not been asked about the day
        if path is not None:
            self._open(path)

    def now(self) -> float:
        """Return the time by the ledger's clock, which never goes back unless it was set."""
        with self._lock:
            return self._tick()

    def record(self, entry: Entry) -> None:
        """Count a request and write it down; one that is known already changes nothing.

        It counts at once and is on the disk when this returns, unless `fault` says otherwise.
        """
        with self._file_lock:
            if entry.request_id in self._waiting or self._is_written(entry.request_id):
                return
            with self._lock:
                self._tick()
                day = min(day_of(entry.started_at), self._day)
                self._waiting[entry.request_id] = day, entry
                self._count(day, entry)
            self.flush()

    def flush(self) -> None:
        """Try to write what waits, once a second while that fails; `fault` says how it went."""
        with self._file_lock:
            if self.path is None:
                self._waiting.clear()
                return
            if self.fault is not None and abs(self.now() - self._tried_at) < _RETRY_S:
                return
            self._tried_at = self.now()
            try:
                if self._file is None:
                    self._file = LedgerFile(self.path)
                    self._take_up(self._file)
                self._file.write(list(self._waiting.values()))
                if self._landed:
                    self._carry(self._file)
            except LedgerError as error:
                self._fail(error)
                return
            if self.fault is not None:
                _log.warning("ledger %s: can be written again", self.path)
            self.fault = None
            self._warn(self._file.mended)
            with self._lock:
                self._waiting.clear()
            self._look_for_others()

    def standing(self) -> Standing:
        """Return everything that budgets are compared with."""
        with self._lock:
            now = self._tick()
            return Standing(now, self._today, self._power.total(now), self._cloud.total(now))

    def today(self) -> Totals:
        """Return what counts as spent on the current budget day."""
        with self._lock:
            self._tick()
            return self._today

    def day_left_s(self) -> float:
        """Return the seconds until the next budget day."""
        return DAY_S - self.now() % DAY_S

    def window_j(self) -> float:
        """Return the joules above idle that were spent in the power window."""
        with self._lock:
            return self._power.total(self._tick())

    def window_has_room_in_s(self, joules: float) -> float:
        """Return the seconds until the power window holds at most `joules`."""
        with self._lock:
            return self._power.seconds_until(self._tick(), joules)

    def hour_cloud_tokens(self) -> float:
        """Return the cloud tokens of the last hour."""
        with self._lock:
            return self._cloud.total(self._tick())

    def hour_has_room_in_s(self, cloud_tokens: float) -> float:
        """Return the seconds until the last hour holds at most `cloud_tokens`."""
        with self._lock:
            return self._cloud.seconds_until(self._tick(), cloud_tokens)

    def close(self) -> None:
        """Write what waits and close the file; idempotent."""
        with self._file_lock:
            if self._waiting:
                self._tried_at = -_RETRY_S
                self.flush()
            if self._file is not None:
                self._file.close()
                self._file = None

    def _open(self, path: Path) -> None:
        try:
            self._file = LedgerFile(path)
            self._take_up(self._file)
        except LedgerError as error:
            self._fail(error)
            # What was spent before still counts, where it can be read.
            with suppress(LedgerError):
                readable = LedgerFile(path, read_only=True)
                try:
                    self._count_anew(readable)
                finally:
                    readable.close()

    def _take_up(self, file: LedgerFile) -> None:
        """Begin from what a file holds, and let it go on from here.

        Raises:
            LedgerError: it cannot be read or written.
        """
        self._warn(file.mended)
        self._count_anew(file)
        if self._landed:
            self._carry(file)
        file.fold(self._day - KEPT_DAYS)
        self._version = file.version()

    def _count_anew(self, file: LedgerFile) -> None:
        """Count what a file holds, and what waits to be written into it."""
        last = file.last()
        now = self.now()
        # Before the last record there is no now: the clock was set back, or has lost its time.
        at = now if last is None or last[0] <= now + SET_S else last[0]
        since = at - max(HOUR_S, self._power.window_s)
        today, recent = file.totals(self._day), file.recent(since, at)
        if last is not None and at > now:
            today += file.totals(last[1]).beyond(today)
            self._landed = True
            self._say_set(now - at)
        waiting = [pair for name, pair in self._waiting.items() if not file.knows(name)]
        with self._lock:
            before, self._today = self._today, today
            self._power.clear()
            self._cloud.clear()
            for start, end, joules, cloud_tokens in recent:
                self._power.add(start + now - at, end + now - at, joules)
                self._cloud.add(start + now - at, end + now - at, cloud_tokens)
            for day, entry in waiting:
                self._count(day, entry)
            if self._landed:
                self._today += before.beyond(self._today)

    def _carry(self, file: LedgerFile) -> None:
        """After the clock was set, let the day count what did before, on disk too."""
        written = file.totals(self._day)
        with self._lock:
            self._today += written.beyond(self._today)
            carried = self._today.beyond(written)
            self._landed = False
        file.carry(self._day, carried)

    def _look_for_others(self) -> None:
        """Count what another process, as `updraft generate` beside the agent, has written."""
        assert self._file is not None, "it was written just now"
        with suppress(LedgerError):
            if (version := self._file.version()) != self._version:
                self._version = version
                self._count_anew(self._file)

    def _is_written(self, request_id: str) -> bool:
        if self._file is None:
            return False
        try:
            return self._file.knows(request_id)
        except LedgerError:
            return False  # writing will say what is wrong

    def _count(self, day: int, entry: Entry) -> None:
        if day == self._day:
            self._today += Totals.of(entry)
        # After the clock was set back, a request that began before that ends now.
        late = min(0.0, self._now - entry.ended_at)
        start, end = entry.started_at + late, entry.ended_at + late
        self._power.add(start, end, entry.usage.energy_j)
        self._cloud.add(start, end, entry.usage.cloud_tokens)

    def _tick(self) -> float:
        """Read the clock and notice a new day, or that the clock was set."""
        self._now, set_by_s = self._clock.read()
        day = day_of(self._now)
        if set_by_s:
            self._power.shift(set_by_s)
            self._cloud.shift(set_by_s)
            self._landed = True
            self._say_set(set_by_s)
        elif day != self._day:
            self._today = Totals()
        self._day = day
        return self._now

    def _say_set(self, seconds: float) -> None:
        way = "forward" if seconds > 0 else "back"
        self._warn(
            f"the clock was set {way} by {abs(seconds):.0f} s; what was spent on the day before "
            "counts for the day that it shows now"
        )

    def _fail(self, error: LedgerError) -> None:
        if self.fault is None:
            _log.warning("%s; what is spent is counted in memory until it works again", error)
        while len(self._waiting) > _MOST_WAITING:
            self._waiting.pop(next(iter(self._waiting)))
            self._given_up += 1
        lost = f"; {self._given_up} records were given up" if self._given_up else ""
        self.fault = f"{error}{lost}"

    def _warn(self, message: str | None) -> None:
        if message is not None and message != self.warning:
            _log.warning("%s", message)
            self.warning = message
