"""The emulated fleet: which expert runs on which device, and what each declares of itself.

The experts are real and small. What a node declares, and keeps to, is what a 1.1-billion-parameter
int4 model would take on its device, by the performance model.
"""

from __future__ import annotations

from dataclasses import dataclass

from updraft.devices.catalog.device import Device
from updraft.devices.catalog.entries import find, load_catalog
from updraft.devices.performance import PerformanceModel
from updraft.devices.workload import Piece, Workload

PROMPT_TOKENS = 64
NEW_TOKENS = 16

_LAYERS = 22
_LAYER_WEIGHTS = 44_000_000
_HEAD_WEIGHTS = 65_000_000
_INT4_BYTES = 0.5625  # with a scale for each block of 32
_KV_BYTES = 1_024

# node name, expert, device. Popular experts are there more than once, dear and cheap.
_FLEET = (
    ("agx-1", "generalist", "jetson-agx-orin-64"),
    ("nx-1", "generalist", "jetson-orin-nx-16"),
    ("nx-2", "python", "jetson-orin-nx-16"),
    ("nano-1", "python", "jetson-orin-nano-8"),
    ("nx-3", "c", "jetson-orin-nx-8"),
    ("nano-2", "c", "jetson-orin-nano-8"),
    ("agx-2", "docs", "jetson-agx-orin-32"),
    ("nano-3", "docs", "jetson-orin-nano-8"),
    ("nano-4", "logs", "jetson-orin-nano-4"),
    ("nano-5", "logs", "jetson-orin-nano-8"),
)


@dataclass(frozen=True)
class EmulatedNode:
    """A node and what it declares.

    Attributes:
        active_w: above idle, while it answers.
        standby_w: what it takes to be on, beyond being parked.
    """

    name: str
    expert: str
    device: str
    first_token_ms: float
    per_token_ms: float
    active_w: float
    standby_w: float

    @property
    def prompt_j(self) -> float:
        """Energy of a prompt of `PROMPT_TOKENS` tokens."""
        return self.active_w * self.first_token_ms / 1e3

    @property
    def per_token_j(self) -> float:
        return self.active_w * self.per_token_ms / 1e3


def fleet() -> tuple[EmulatedNode, ...]:
    """Return the nodes of the benchmark."""
    catalog = load_catalog()
    return tuple(_node(name, expert, find(catalog, model)) for name, expert, model in _FLEET)


def _node(name: str, expert: str, device: Device) -> EmulatedNode:
    mode = device.default_mode
    expected = PerformanceModel(device, mode, _stand_in()).predict(
        prompt_tokens=PROMPT_TOKENS, new_tokens=NEW_TOKENS, top=_LAYERS
    )
    return EmulatedNode(
        name,
        expert,
        device.id,
        expected.first_token_ms.value,
        expected.per_token_ms.value,
        active_w=mode.active_w - device.idle_w,
        standby_w=device.idle_w,
    )


def _stand_in() -> Workload:
    body = Piece(
        int(_LAYERS * _LAYER_WEIGHTS * _INT4_BYTES), _LAYERS * _LAYER_WEIGHTS, _KV_BYTES, _LAYERS
    )
    head = Piece(int(_HEAD_WEIGHTS * _INT4_BYTES), _HEAD_WEIGHTS, 0, _LAYERS)
    return Workload("stand-in", "int4", (body,), head, (_LAYERS,), _LAYERS, {}, 2048)
