"""The engine benchmark: its checkpoints, its protocol, its arithmetic, and a run that is tiny."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import monotonic, sleep

import numpy as np
import pytest
from typer.testing import CliRunner

from updraft.benchmarks.engine import contenders, models
from updraft.benchmarks.engine.checkpoint import write_checkpoint
from updraft.benchmarks.engine.contenders import (
    EXIT,
    GENAI,
    LLAMA_Q4,
    OURS,
    RIVALS,
    UPDRAFT,
    WHOLE,
    Contender,
)
from updraft.benchmarks.engine.figures import Figure, figure_table, figures_of
from updraft.benchmarks.engine.plan import PROMPT_TOKENS, TIERS, Case, Tier
from updraft.benchmarks.engine.results import CaseResults
from updraft.benchmarks.engine.samples import Estimate, Sample, Series, estimate, ratio
from updraft.benchmarks.engine.shapes import QWEN3_06B, QWEN25_05B, SMALL, Shape
from updraft.benchmarks.engine.vocabulary import tokenizer_json
from updraft.benchmarks.engine.worker import Answer, RuntimeFailed, Worker, call

RUNTIMES = Path(models.__file__).parent / "runtimes"
TINY = Shape(
    "tiny", "llama", layers=2, width=64, heads=2, kv_heads=1, head_width=32, ffn_width=128,
    vocabulary_size=512, split=1, context_length=256,
)  # fmt: skip
ABSENT = Contender("Nobody", "nobody", "nobody", "int4", {}, install="nobody")


def answer(decode_rate=50.0, first_s=0.5, tokens=(1, 2, 3), since_start_s=1.5):
    times = tuple(first_s + number / decode_rate for number in range(len(tokens)))
    return Answer(128, tokens, times, 1.0, 400_000_000, since_start_s)


def series(contender, rates, weight_bytes=250_000_000, tokens=(1, 2, 3)):
    samples = [Sample(answer(rate, tokens=tokens), 25e9, None) for rate in rates]
    cold = [answer()] * 2
    return Series(contender, {"package": "1"}, weight_bytes, samples, cold)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_a_checkpoint_is_one_that_transformers_loads(tmp_path, family):
    transformers = pytest.importorskip("transformers")
    shape = replace(TINY, family=family)
    folder = write_checkpoint(tmp_path / "checkpoint", shape, seed=3)
    model, told = transformers.AutoModelForCausalLM.from_pretrained(
        str(folder), output_loading_info=True
    )
    assert not (told["missing_keys"] or told["unexpected_keys"] or told["mismatched_keys"])
    matrices = sum(p.numel() for n, p in model.named_parameters() if p.ndim == 2)
    assert matrices == shape.body_parameters + shape.head_parameters
    assert not model.model.embed_tokens.weight[-1].any()
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
    assert len(tokenizer) == shape.vocabulary_size
    assert tokenizer.decode(tokenizer.encode("für x in y:\n")) == "für x in y:\n"


def test_a_checkpoint_follows_from_its_seed_and_is_kept(tmp_path):
    paths = [write_checkpoint(tmp_path / str(n), TINY, seed) for n, seed in enumerate((1, 1, 2))]
    one, same, other = ((path / "model.safetensors").read_bytes() for path in paths)
    assert one == same != other
    before = (paths[0] / "config.json").stat().st_mtime_ns
    write_checkpoint(paths[0], TINY, seed=1)
    assert (paths[0] / "config.json").stat().st_mtime_ns == before


def test_checkpoints_are_read_as_they_were_written(tmp_path, monkeypatch):
    safetensors = pytest.importorskip("safetensors.torch")
    monkeypatch.syspath_prepend(str(RUNTIMES))
    import safetensors_file

    folder = write_checkpoint(tmp_path / "checkpoint", TINY, seed=0)
    expected = safetensors.load_file(folder / "model.safetensors")
    found = dict(safetensors_file.tensors(folder))
    assert list(found) == [tensor.name for tensor in TINY.tensors()]
    assert all((found[name] == expected[name].float().numpy()).all() for name in expected)


@pytest.mark.parametrize("size", [300, 4096, 70_000])
def test_a_vocabulary_has_the_asked_size(size):
    model = tokenizer_json(size)["model"]
    assert sorted(model["vocab"].values()) == list(range(size))
    assert len(model["merges"]) == size - 257


def test_the_published_shapes_have_the_published_sizes():
    assert QWEN25_05B.body_parameters + QWEN25_05B.head_parameters == 493_961_216
    assert QWEN3_06B.body_parameters + QWEN3_06B.head_parameters == 595_984_384


def test_the_full_tiers_measure_what_the_figures_ask_for():
    for name in ("default", "long"):
        cases = {case.shape: case for case in TIERS[name].cases}
        assert {QWEN25_05B, SMALL} <= set(cases)
        assert all(case.contenders == (*OURS, *RIVALS) for case in cases.values())
        assert all(case.cold_starts for case in cases.values())
    prompts = [TIERS["default"].cases[0].prompt(number) for number in (0, 0, 1)]
    assert prompts[0] == prompts[1] != prompts[2]
    assert len(prompts[0]) == PROMPT_TOKENS


def test_rates_come_from_the_times_of_the_tokens():
    said = Answer(128, (1, 2, 3, 4, 5), (0.5, 0.6, 0.7, 0.8, 0.9), 1.0, 1, 2.0)
    assert said.prefill_rate == pytest.approx(256)
    assert said.decode_rate == pytest.approx(10)
    assert Sample(said, 1e9, None).step_s == pytest.approx(0.1)
    of = Series(UPDRAFT, {}, 50_000_000, [Sample(said, 1e9, 5.0)], [said])
    assert of.bound_shares == [pytest.approx(0.5)]
    assert of.joules_per_token == [1.0]
    assert of.cold_s == [2.0]


def test_a_ratio_is_of_medians_and_its_interval_of_rounds_drawn_together():
    drifting = np.array([10.0, 20.0, 40.0, 30.0, 15.0])
    found = ratio(1.5 * drifting, drifting)
    assert found.value == pytest.approx(1.5)
    # What drifts with the machine cancels out, because rounds are drawn as pairs.
    assert (found.low, found.high) == (pytest.approx(1.5), pytest.approx(1.5))
    noisy = ratio([1.0, 2.0, 9.0], [1.0, 1.0, 1.0])
    assert noisy.value == 2.0
    assert noisy.low < 2.0 < noisy.high
    assert ratio([], [1.0]) is estimate([]) is None


@pytest.mark.parametrize(
    ("seen", "at_least", "verdict"),
    [
        (Estimate(1.5, 1.1, 2.0), True, "reached"),
        (Estimate(1.5, 0.9, 2.0), True, "reached, not beyond doubt"),
        (Estimate(0.9, 0.8, 2.0), True, "missed"),
        (Estimate(0.9, 0.8, 0.95), False, "reached"),
        (Estimate(0.9, 0.8, 1.2), False, "reached, not beyond doubt"),
        (None, True, "not measured"),
    ],
)
def test_a_verdict_follows_from_value_and_interval(seen, at_least, verdict):
    figure = Figure("shape", "it", "×", 1.0, seen, at_least)
    assert figure.verdict == figure.as_json()["verdict"] == verdict
    (row,) = figure_table([figure]).rows
    assert row[-1] == verdict
    assert row[2] == ("≥ 1 ×" if at_least else "≤ 1 ×")


def test_the_fastest_of_those_to_reach_is_the_one_compared_with():
    found = {
        UPDRAFT: series(UPDRAFT, [80.0, 80.0]),
        EXIT: series(EXIT, [160.0, 160.0]),
        GENAI: series(GENAI, [40.0, 40.0]),
        LLAMA_Q4: series(LLAMA_Q4, [64.0, 64.0]),
    }
    figures = {
        figure.name: figure
        for figure in figures_of(QWEN25_05B, found.get, (GENAI, LLAMA_Q4), 500_000_000)
    }
    best = figures["decode ÷ llama.cpp Q4_0, the best"]
    assert best.seen.value == pytest.approx(80 / 64)
    assert figures["decode ÷ onnxruntime-genai, default"].seen.value == pytest.approx(2.0)
    assert figures["decode at the mid exit ÷ full depth"].verdict == "reached"
    assert figures["decode, share of the bandwidth bound"].seen.value == pytest.approx(0.8)
    off = figures["peak memory, off from what was predicted"]
    assert off.seen.value == pytest.approx(0.2)
    assert off.verdict == "missed"
    assert figures["step cut ÷ whole"].verdict == "not measured"
    elsewhere = figures_of(QWEN3_06B, found.get, (GENAI, LLAMA_Q4), None)
    assert {figure.verdict for figure in elsewhere} <= {"reported", "not measured"}


def test_a_cut_model_that_says_something_else_is_a_fault():
    case = CaseResults(Case(TINY, tokens=3, rounds=2, cold_starts=0))
    case.series = {
        UPDRAFT.name: series(UPDRAFT, [50.0, 50.0]),
        WHOLE.name: series(WHOLE, [50.0, 50.0]),
    }
    assert case.faults == []
    case.series[WHOLE.name] = series(WHOLE, [50.0, 50.0], tokens=(1, 2, 4))
    assert case.faults == [
        "tiny: Updraft, bare loop, whole decoded 2 of 2 texts otherwise than Updraft"
    ]


STUB = """\
import os
import sys
import time

PACKAGES = ("numpy",)


class Runtime:
    def __init__(self, model, threads, options):
        self.how = options["how"]
        print("libraries print to standard output")
        os.write(1, b"so do those in C\\n")

    def generate(self, prompt, count, emit):
        if self.how == "crash":
            sys.exit("the stub gives up")
        if self.how == "hang":
            time.sleep(60)
        for token in range(count - (self.how == "short")):
            emit(prompt[0] + token)
"""


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Make a runtime that does as told; returns a function that starts it."""
    (tmp_path / "stub.py").write_text(STUB)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    workers = []

    def start(how):
        arguments = ["run", "stub", "model", "1", json.dumps({"how": how})]
        workers.append(Worker(Path(sys.executable), arguments, tmp_path / "log"))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


def test_a_worker_answers_again_and_again(stub):
    worker = stub("well")
    first = worker.ask([7], 3, 30)
    again = worker.ask([9], 2, 30)
    assert (first.tokens, again.tokens) == ((7, 8, 9), (9, 10))
    assert 0 < first.first_token_s <= first.times_s[-1] < first.since_start_s
    assert first.peak_bytes > 1e6


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads the state of a process")
def test_a_worker_stands_still_between_questions(stub):
    worker = stub("well")
    worker.ask([7], 3, 30)
    path, deadline = Path(f"/proc/{worker.pid}/stat"), monotonic() + 10
    while path.read_text().rpartition(")")[2].split()[0] != "T":
        assert monotonic() < deadline
        sleep(0.01)


PARENT = """\
import sys
from pathlib import Path
from updraft.benchmarks.engine.worker import Worker

worker = Worker(Path(sys.executable), ["run", "stub", "model", "1", '{"how": "well"}'], Path("log"))
worker.ask([7], 3, 30)
print(worker.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the system has no such signal")
def test_a_worker_ends_with_a_parent_that_is_killed(stub, tmp_path):
    command = [sys.executable, "-c", PARENT]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as parent:
        worker = Path(f"/proc/{int(parent.stdout.readline())}")
        assert worker.exists()
        parent.kill()
    deadline = monotonic() + 10
    while worker.exists() and " Z " not in (worker / "stat").read_text():
        assert monotonic() < deadline
        sleep(0.01)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("crash", "exit code 1: .*the stub gives up"),
        ("hang", "no answer within 1 s: libraries print"),
        ("short", "decoded 2 tokens in place of 3"),
    ],
)
def test_a_worker_that_fails_says_how(stub, how, told):
    with pytest.raises(RuntimeFailed, match=told):
        stub(how).ask([7], 3, 1 if how == "hang" else 30)


def test_a_python_that_does_not_start_is_told(tmp_path):
    with pytest.raises(RuntimeFailed, match="does not start"):
        call(tmp_path / "nowhere", ["versions", "genai"], tmp_path / "log", 10)


def test_llama_cpp_rotates_neighbours_where_others_rotate_halves(monkeypatch):
    monkeypatch.syspath_prepend(str(RUNTIMES))
    import llama

    rows = np.arange(8)[:, None] * np.ones((1, 2))
    assert llama._interleave(rows, 4)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert llama._name("model.layers.11.self_attn.q_norm.weight") == "blk.11.attn_q_norm.weight"
    assert llama._name("model.layers.0.self_attn.k_proj.bias") == "blk.0.attn_k.bias"


def test_a_tiny_run_from_the_command_to_the_files(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    pytest.importorskip("torch")
    from updraft.cli.bench import app

    ours = (UPDRAFT, EXIT, WHOLE)
    tiny = Case(TINY, tokens=5, rounds=3, cold_starts=1, contenders=(*ours, ABSENT))
    monkeypatch.setitem(TIERS, "quick", Tier("quick", (tiny,)))
    output, work = tmp_path / "output", tmp_path / "work"
    command = ["engine", "--tier", "quick", "--threads", "1", "--json"]
    done = CliRunner().invoke(app, [*command, "--output", str(output), "--work", str(work)])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found == json.loads((output / "engine.json").read_text())
    assert found["faults"] == []
    assert found["left_out"] == [
        "tiny: Nobody: not installed: pip install nobody into an environment of its own, and "
        "name its Python with --rivals-python"
    ]
    (case,) = found["cases"]
    assert case["weights"] == "random"
    assert [each["name"] for each in case["contenders"]] == [each.name for each in ours]
    for each in case["contenders"]:
        assert {len(each["samples"][name]) for name in ("first_token_s", "share_of_bandwidth")} == {
            3
        }
        assert len(each["samples"]["peak_bytes"]) == 1
        assert each["spread"]["decode_tokens_per_s"]["median"] == median(
            each["samples"]["decode_tokens_per_s"]
        )
    full, at_exit = (each["weight_bytes_per_token"] for each in case["contenders"][:2])
    assert 0 < at_exit < full
    text = (output / "engine.md").read_text()
    assert "Random weights of published shapes" in text
    assert "Figures to reach" in text
    assert {path.name for path in output.glob("*.png")} == {
        "engine-decode-tiny.png",
        "engine-roofline-tiny.png",
    }


def test_a_python_that_is_not_there_is_refused(tmp_path):
    pytest.importorskip("matplotlib")
    from updraft.cli.bench import app

    nowhere = str(tmp_path / "python")
    done = CliRunner().invoke(app, ["engine", "--rivals-python", nowhere])
    assert done.exit_code == 1
    assert f"--rivals-python {nowhere}: there is no such file" in str(done.exception)


def test_every_contender_has_a_runtime_of_its_own_script():
    for contender in (*OURS, *RIVALS):
        assert (RUNTIMES / f"{contender.runtime}.py").is_file()
    names = [contender.name for contender in (*contenders.OURS, *contenders.RIVALS)]
    assert len(set(names)) == len(names)
