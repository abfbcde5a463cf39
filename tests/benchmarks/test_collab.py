"""The whole benchmark, as small as it can be, with real parts."""

import json
from dataclasses import replace

import pytest
from rich.console import Console

from updraft.benchmarks.collab.plan import CROWD, ROWS, Leg, Tier
from updraft.benchmarks.collab.results import left_out, save, to_json
from updraft.benchmarks.collab.run import measure
from updraft.benchmarks.collab.wire import Link

LINK = Link(round_trip_ms=2, mbit_s=100)
TIER = Tier(
    "quick",
    legs=(Leg(LINK, prompts=1, naive_prompts=1, repeats=1, temperatures=(0.0,)),),
    max_tokens=6,
    agreement_prompts=2,
    clients=(1, 2),
    client_links=(LINK,),
    client_prompts=1,
    client_completions=1,
    blackout_s=0.1,
    blackout_prompts=1,
    samples=8,
)
SHALLOW = replace(TIER, rows=CROWD, clients=(), blackout_prompts=0)


@pytest.fixture(scope="module")
def results(bundle):
    return measure(bundle, replace(TIER, shallow=SHALLOW), Console(quiet=True))


def test_what_is_to_be_exact_is_exact(results):
    assert results.faults == []


def test_every_row_is_measured_or_left_out_with_a_reason(results):
    measured = {cell.row for cell in results.cells if cell.runs}
    assert measured | {row for row, _ in results.left_out} == set(ROWS)
    assert len(left_out(results)) == len(results.left_out)


def test_lossless_texts_are_those_of_cloud(results):
    shares = [each.identical for each in results.agreements if each.row.mode == "lossless"]
    assert shares
    assert set(shares) == {1.0}


def test_clients_and_blackouts_are_measured(results):
    assert {each.clients for each in results.crowds} == {1, 2}
    assert all(each.context_mib <= each.limit_mib for each in results.crowds)
    assert {each.cut for each in results.stricken} == {False, True}


def test_the_first_exit_is_measured_as_the_split_too(results):
    assert {cell.row for cell in results.shallow.cells if cell.runs} == set(CROWD)
    assert results.shallow.left_out == {}


def test_figures_are_json(results):
    figures = json.loads(to_json(results))
    assert len(figures["cells"]) == sum(bool(cell.runs) for cell in results.cells)


def test_tables_and_plots_are_written(results, tmp_path):
    pytest.importorskip("matplotlib")
    names = save(results, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(names)
    text = (tmp_path / "collab.md").read_text()
    assert all(row.name in text for row in ROWS)
