"""A meter that reads a sensor many times a second and divides what it says among requests."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic

from updraft.devices.meters.baseline import Baseline
from updraft.devices.meters.meter import Energy
from updraft.devices.meters.modelled import ModelledMeter
from updraft.devices.meters.sensor import Sensor
from updraft.devices.meters.shares import Shares, Stake
from updraft.devices.meters.trace import Segment, Trace
from updraft.errors import ProbeError

# A sensor that fails for so long, or so often in a row where it is read rarely, is given up.
_GRACE_S = 2.0
_GRACE_READINGS = 3
# How long the end of a request waits for a reading that is under way.
_PATIENCE_S = 0.05
# Power that is older says nothing of now.
_STALE_S = 2.0
_STOP_S = 2.0

_log = logging.getLogger(__name__)


class SampledMeter:
    """Joules by integration, or by a counter; see docs/energy.md.

    Nothing is read when a request begins. When it ends, the sensor is read once more, so that its
    last moments are measured too.

    Args:
        fallback: says what is spent once the sensor has died.
        rate_hz: readings per second; no more than the sensor's `fastest_hz`.
        clock: seconds that stand still while the system is suspended.
    """

    def __init__(
        self,
        sensor: Sensor,
        baseline: Baseline,
        fallback: ModelledMeter,
        rate_hz: float,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.rate_hz = min(rate_hz, sensor.fastest_hz)
        self._sensor = sensor
        self._baseline = baseline
        self._fallback = fallback
        self._clock = clock
        self._trace = Trace(sensor.counts, sensor.most_w)
        self._shares = Shares()
        self._read_s = float("-inf")
        self._failing: list[float] = []
        self._dead: str | None = None
        # The first is held while the sensor is read, which may take milliseconds; the second
        # guards what is known, for microseconds. They are taken in this order.
        self._reading = threading.Lock()
        self._state = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="updraft-meter", daemon=True)

    @property
    def method(self) -> str:
        if self._dead is None:
            return self._measured
        return f"{self._fallback.method} ({self._epitaph})"

    @property
    def idle_w(self) -> float:
        return self._baseline.watts

    def start(self) -> None:
        """Take the first reading and go on in a thread.

        Raises:
            ProbeError: the sensor says nonsense from the start.
        """
        self._take(self._sensor.read())
        self._thread.start()

    def begin(self, busy_s: Callable[[], float] | None = None) -> _Span:
        with self._state:
            return _Span(self, self._shares.enter(self._clock(), busy_s))

    def power_w(self) -> float | None:
        with self._state:
            if self._dead is not None or self._clock() - self._read_s > _STALE_S:
                return None
            return self._trace.power_w

    def close(self) -> None:
        if self._stop.is_set():
            return
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)
        with self._state:
            self._die("it was closed")
        # A reading that hangs in a driver keeps what it reads; the thread ends with the process.
        if self._reading.acquire(timeout=_STOP_S):
            try:
                self._sensor.close()
            finally:
                self._reading.release()

    def sample(self, wanted_s: float | None = None) -> None:
        """Read the sensor once.

        Args:
            wanted_s: do nothing if power is known until then already.
        """
        with self._reading:
            self._sample(wanted_s)

    def _sample(self, wanted_s: float | None = None) -> None:
        if self._dead is not None or (wanted_s is not None and self._known_until(wanted_s)):
            return
        try:
            reading = self._sensor.read()
        except ProbeError as error:
            with self._state:
                self._failed(error)
            return
        with self._state:
            try:
                self._take(reading)
            except ProbeError as error:
                self._failed(error)

    def _take(self, reading: float) -> None:
        at_s = self._clock()
        segment = self._trace.add(at_s, reading)
        self._read_s = at_s
        self._failing.clear()
        self._pour(segment)

    def _settle(self, stake: Stake, busy_s: float) -> Energy:
        """Close a request and return what it has to pay."""
        with self._state:
            at_s = self._clock()
            self._shares.leave(at_s, stake, busy_s)
        if self._reading.acquire(timeout=_PATIENCE_S):
            try:
                self._sample(at_s)
            finally:
                self._reading.release()
        with self._state:
            self._bridge(at_s)
            return self._bill(stake)

    def _bridge(self, at_s: float) -> None:
        """Make sure that energy is known until a moment, by whatever means are left."""
        if self._dead is not None or self._known_until(at_s):
            return
        silent_s = at_s - self._read_s
        if self._reading.locked() and silent_s > _GRACE_S:
            self._die(f"a reading has not come back for {silent_s:.1f} s")
        else:
            self._pour(self._trace.hold(at_s))

    def _bill(self, stake: Stake) -> Energy:
        modelled_j = self._fallback.active_power_w * stake.modelled_s
        if self._dead is None or (stake.joules and not stake.modelled_s):
            words = self._measured
        elif stake.joules:
            words = f"{self._measured}; then {self.method}"
        else:
            words = self.method
        return Energy(max(stake.joules, 0.0) + modelled_j, words)

    def _pour(self, segment: Segment | None) -> None:
        if segment is None:
            return
        if self._shares.quiet(segment):
            self._baseline.add(segment)
        else:
            self._shares.pour(segment, self._baseline.watts)

    def _failed(self, error: ProbeError) -> None:
        now = self._clock()
        self._failing.append(now)
        if len(self._failing) >= _GRACE_READINGS and now - self._failing[0] >= _GRACE_S:
            self._die(str(error))

    def _die(self, why: str) -> None:
        if self._dead is not None:
            return
        self._dead = why
        self._shares.stop_measuring(self._clock())
        if not self._stop.is_set():
            _log.warning("%s; energy is modelled from now on", self._epitaph)

    def _known_until(self, at_s: float) -> bool:
        return self._trace.at_s is not None and self._trace.at_s >= at_s

    @property
    def _measured(self) -> str:
        sensor = self._sensor
        how = "" if sensor.counts else f" at {self.rate_hz:g} Hz"
        return f"{sensor.kind}: {sensor.rail}{how}, {self._baseline.words}"

    @property
    def _epitaph(self) -> str:
        return f"the {self._sensor.kind} meter failed: {self._dead}"

    def _run(self) -> None:
        period_s = 1 / self.rate_hz
        due_s = self._clock()
        while not self._stop.wait(max(due_s - self._clock(), 0.0)):
            if self._dead is not None:
                return
            self.sample()
            # A late reading is not made up for.
            due_s = max(due_s + period_s, self._clock())


class _Span:
    def __init__(self, meter: SampledMeter, stake: Stake) -> None:
        self._meter = meter
        self._stake = stake

    def end(self, busy_s: float) -> Energy:
        return self._meter._settle(self._stake, busy_s)  # noqa: SLF001
