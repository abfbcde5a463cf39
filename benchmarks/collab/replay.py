"""The time model of `updraft.edge.timemodel`, replayed with the constants of this run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from updraft.benchmarks.collab.cells import Cell
from updraft.benchmarks.collab.constants import Constants
from updraft.benchmarks.collab.plan import NAIVE, SPECULATING
from updraft.benchmarks.collab.simulation import Draft, simulate
from updraft.benchmarks.collab.stage import Run
from updraft.benchmarks.collab.wire import Link
from updraft.edge.timemodel import (
    Costs,
    Path,
    Work,
    cloud_s,
    naive_s,
    rejection_s,
    request_s,
    speculation_s,
    standalone_s,
    threshold_s,
)

# Further apart than this share is a bug in the model or in the measurement, or is explained.
TOLERANCE = 0.15
_ID_BYTES = 4

Drafts = Callable[[Cell, Run], list[Draft]]


@dataclass(frozen=True)
class Replay:
    """A row over a link, as the model has it and as it was: seconds per completion.

    Attributes:
        simulated_s: where the edge speculates, what the event-by-event model says.
        rate: share of tokens that cost a wait: r in `threshold`, rejected drafts where the edge
            speculates.
        wait_s: what each of those costs by the model: R + t_c + u, or L.
    """

    cell: Cell
    predicted_s: float
    simulated_s: float | None
    measured_s: float
    rate: float
    wait_s: float

    @property
    def ratio(self) -> float:
        return self.predicted_s / self.measured_s

    @property
    def is_apart(self) -> bool:
        return abs(self.ratio - 1) > TOLERANCE


def replay(
    cells: Sequence[Cell], constants: Mapping[Link, Constants], drafts: Drafts
) -> list[Replay]:
    """Predict every cell that the model covers: no loss, a mode with a formula.

    Args:
        constants: as measured beside each link's cells.
        drafts: says what the split's exit says along a run's text.
    """
    found = (_replay(cell, constants[cell.link], drafts) for cell in cells if cell.runs)
    return [each for each in found if each is not None]


def _replay(cell: Cell, constants: Constants, drafts: Drafts) -> Replay | None:
    mode = cell.row.mode
    if cell.link.loss:
        return None
    path = Path(constants.round_trip_s, cell.link.bytes_s)
    costs = _costs(cell, constants)
    rate = wait = 0.0
    simulated: list[float] = []
    if mode == "standalone":
        seconds = [standalone_s(_work(run), costs) for run in cell.runs]
    elif mode == "cloud":
        seconds = [cloud_s(_work(run), costs, path) for run in cell.runs]
    elif cell.row == NAIVE:
        rate, wait = 1.0, request_s(costs, path)
        seconds = [naive_s(_work(run), costs, path) for run in cell.runs]
    elif mode == "threshold":
        rate, wait = cell.per_token(lambda run: run.result.cloud_calls), request_s(costs, path)
        seconds = [threshold_s(_work(run), costs, path, rate) for run in cell.runs]
    elif mode in SPECULATING:
        assert cell.tuning is not None, "a cell of a speculating row keeps it"
        group, said = _group(cell), [drafts(cell, run) for run in cell.runs]
        rejected = sum(not (draft.right or draft.committed) for text in said for draft in text)
        rate, wait = rejected / cell.new_tokens, rejection_s(costs, path, group)
        seconds = [speculation_s(_work(run), costs, path, rate, group) for run in cell.runs]
        simulated = [
            simulate(text, run.prompt_tokens, costs, path, cell.tuning)
            for text, run in zip(said, cell.runs, strict=True)
        ]
    else:
        return None
    return Replay(
        cell,
        fmean(seconds),
        fmean(simulated) if simulated else None,
        fmean(run.result.total_s for run in cell.runs),
        rate,
        wait,
    )


def _work(run: Run) -> Work:
    return Work(run.prompt_tokens, run.new_tokens)


def _group(cell: Cell) -> float:
    """Return c, the drafts of one verdict."""
    calls = sum(run.result.cloud_calls for run in cell.runs)
    return max(1.0, sum(run.result.judged for run in cell.runs) / max(1, calls))


def _costs(cell: Cell, constants: Constants) -> Costs:
    mode, ids = cell.row.mode, cell.row.mode == "ids"
    drafts = mode in SPECULATING
    passes = constants.whole if ids else constants.upper
    prefill = constants.whole_prefill_s if ids else constants.upper_prefill_s
    # Where exits before the split can be taken, or both are looked at, the row's own pace tells.
    alone = _edge_s(cell, constants) + constants.edge_overhead_s
    return Costs(
        edge_s=constants.streaming_edge_s if drafts else alone,
        whole_s=constants.whole_s,
        upper_s=passes.first_s if drafts else _upper_s(cell, constants),
        position_bytes=_position_bytes(cell, constants),
        upper_growth=passes.growth,
        exchange_s=constants.start_s if mode == "cloud" else constants.exchange_s,
        edge_prefill_s=constants.edge_prefill_s,
        upper_prefill_s=prefill,
        whole_prefill_s=constants.whole_prefill_s,
    )


def _edge_s(cell: Cell, constants: Constants) -> float:
    prefill = sum(run.prompt_tokens for run in cell.runs) * constants.edge_prefill_s
    busy = sum(run.result.edge_s for run in cell.runs)
    return max(0.0, busy - prefill) / cell.new_tokens


def _upper_s(cell: Cell, constants: Constants) -> float:
    """Return the cloud's time for one request, the prompt apart."""
    if cell.row == NAIVE:
        return constants.upper.first_s
    prefill = sum(run.prompt_tokens for run in cell.runs) * constants.upper_prefill_s
    busy = sum(run.result.cloud_s for run in cell.runs)
    calls = sum(run.result.cloud_calls for run in cell.runs)
    return max(0.0, busy - prefill) / max(1, calls)


def _position_bytes(cell: Cell, constants: Constants) -> float:
    """Return what one position costs on the wire, headers and framing included."""
    payload = sum(run.result.uplink_bytes for run in cell.runs)
    each = _ID_BYTES if cell.row.mode in ("ids", "cloud") else constants.state_bytes[cell.row.wire]
    carried = sum(run.carried.up_bytes for run in cell.runs)
    return each * carried / payload if payload else 0.0
