"""What an answer is expected to take on a device, by the way in which it works."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from updraft.devices.catalog.device import Device, PowerMode
from updraft.devices.correction import Correction
from updraft.devices.fit import memory_needed
from updraft.devices.performance import Estimate, PerformanceModel
from updraft.devices.workload import Workload

# Drafts that may be open at one time, the usual number first.
DRAFT_LENGTHS = (8, 16, 4, 2, 1)
MODES = ("full", "lossless", "cloud", "standalone")
# A token's id on the wire.
_ID_BYTES = 4


@dataclass(frozen=True)
class Way:
    """How a device works; `OperatingPoint` says what the names mean."""

    mode: str
    exit_layer: int
    draft_length: int
    power_mode: PowerMode


@dataclass(frozen=True)
class Shape:
    """An answer's size: both at least 1."""

    prompt_tokens: int
    new_tokens: int


@dataclass(frozen=True)
class Coordinator:
    """The coordinator and the way to it.

    Attributes:
        token_ms: one pass over a few positions through the layers that it runs.
        position_ms: each position of a prompt.
        codec: of the states on the wire.
    """

    round_trip_ms: float
    uplink_bytes_per_s: float
    token_ms: float
    position_ms: float
    codec: str = "fp16"


@dataclass(frozen=True)
class Expectation:
    """What one answer takes.

    Attributes:
        quality: share of tokens that agree with the full depth.
        energy_j: of the whole answer, on the device, above idle.
        power_w: of the whole module while it decodes.
        memory_bytes: with one text at full length.
        uplink_bytes, cloud_tokens: of the whole answer.
    """

    quality: float
    first_token_ms: Estimate
    token_ms: Estimate
    energy_j: Estimate
    power_w: float
    memory_bytes: int
    uplink_bytes: float = 0.0
    cloud_tokens: float = 0.0


@dataclass(frozen=True)
class Outlook:
    """Predicts answers of one workload on one device.

    Attributes:
        agreement: for each exit, the share of tokens that agree with the full depth, as measured
            for the bundle; exits without a measurement are not considered.
        coordinator: None: there is none, and no mode that needs one.
        correction: what this device's measurements have taught.
    """

    device: Device
    workload: Workload
    agreement: Mapping[int, float]
    coordinator: Coordinator | None = None
    correction: Correction = field(default_factory=Correction)

    def ways(self, power_mode: PowerMode) -> Iterator[Way]:
        """Go through the ways to work in a power mode, in each mode the usual one first."""
        top, split = self.workload.exits[-1], self.workload.split
        yield Way("full", top, 0, power_mode)
        if self.coordinator is not None:
            if split in self.agreement:
                for drafts in DRAFT_LENGTHS:
                    yield Way("lossless", split, drafts, power_mode)
            yield Way("cloud", 0, 0, power_mode)
        for layer in reversed(self.workload.exits):
            if layer <= split and layer in self.agreement:
                yield Way("standalone", layer, 0, power_mode)

    def expect(self, way: Way, shape: Shape) -> Expectation:
        """Predict an answer.

        Raises:
            ValueError: the way is none of those that `ways` gives.
        """
        if way.mode in ("full", "standalone"):
            return self._alone(way, shape)
        if self.coordinator is None:
            raise ValueError(f"mode {way.mode!r} needs a coordinator")
        if way.mode == "cloud":
            return self._in_the_cloud(shape, self.coordinator)
        if way.mode == "lossless":
            return self._lossless(way, shape, self.coordinator)
        raise ValueError(f"mode {way.mode!r} is not predicted, but {', '.join(MODES)}")

    def _alone(self, way: Way, shape: Shape) -> Expectation:
        top = self.workload.exits[-1]
        model = PerformanceModel(self.device, way.power_mode, self.workload, self.correction)
        found = model.predict(shape.prompt_tokens, shape.new_tokens, way.exit_layer)
        return Expectation(
            quality=1.0 if way.exit_layer == top else self.agreement[way.exit_layer],
            first_token_ms=found.first_token_ms,
            token_ms=found.per_token_ms,
            energy_j=found.energy_j,
            power_w=way.power_mode.active_w,
            memory_bytes=self._memory(way.exit_layer),
        )

    def _in_the_cloud(self, shape: Shape, far: Coordinator) -> Expectation:
        """The device waits, and draws what it draws doing nothing."""
        up_bytes = _ID_BYTES * shape.prompt_tokens
        first_ms = far.round_trip_ms + 1e3 * up_bytes / far.uplink_bytes_per_s
        first_ms += shape.prompt_tokens * far.position_ms + far.token_ms
        return Expectation(
            quality=1.0,
            first_token_ms=_exactly(first_ms),
            token_ms=_exactly(far.token_ms),
            energy_j=_exactly(0.0),
            power_w=self.device.idle_w,
            memory_bytes=memory_needed(self.workload, 0, top=0).runtime,
            uplink_bytes=up_bytes,
            cloud_tokens=shape.prompt_tokens + shape.new_tokens,
        )

    def _lossless(self, way: Way, shape: Shape, far: Coordinator) -> Expectation:
        """Drafts stream up while the next ones are made; a wrong one costs a trip and those after.

        A token comes as fast as the slowest of drafting, sending and judging lets it. For the
        share of the drafts that is wrong, all stands still for a trip, and the drafts made
        meanwhile are lost.
        """
        model = PerformanceModel(self.device, way.power_mode, self.workload, self.correction)
        found = model.predict(shape.prompt_tokens, shape.new_tokens, self.workload.split)
        state_bytes = self.workload.state_bytes[far.codec]
        send_ms = 1e3 * state_bytes / far.uplink_bytes_per_s
        trip_ms = far.round_trip_ms + far.token_ms + send_ms
        wrong = 1 - self.agreement[self.workload.split]
        draft_ms = found.per_token_ms

        def token_ms(step_ms: float) -> float:
            return max(step_ms, send_ms, trip_ms / way.draft_length) + wrong * trip_ms

        each_ms = Estimate(*map(token_ms, (draft_ms.value, draft_ms.low, draft_ms.high)))
        lost = wrong * min(way.draft_length - 1, trip_ms / draft_ms.value)
        drafts = 1 + lost
        busy = min(1.0, drafts * draft_ms.value / each_ms.value)
        idle_w = self.device.idle_w
        prompt_ms = shape.prompt_tokens * (send_ms + far.position_ms) + trip_ms
        sent = shape.prompt_tokens + drafts * shape.new_tokens
        # Only the part of the energy that decoding takes grows with the drafts that are lost.
        decoding_ms = shape.new_tokens * draft_ms.value
        growth = 1 + lost * decoding_ms / (decoding_ms + found.first_token_ms.value)
        return Expectation(
            quality=1.0,
            first_token_ms=found.first_token_ms + _exactly(prompt_ms),
            token_ms=each_ms,
            energy_j=found.energy_j * growth,
            power_w=idle_w + max(0.0, way.power_mode.active_w - idle_w) * busy,
            memory_bytes=self._memory(self.workload.split),
            uplink_bytes=sent * state_bytes,
            cloud_tokens=sent,
        )

    def _memory(self, top: int) -> int:
        return memory_needed(self.workload, 1, top=top).total


def _exactly(value: float) -> Estimate:
    return Estimate(value, value, value)
