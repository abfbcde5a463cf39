"""A hundred thousand frames, sound and not: whoever sends none of the bad ones notices nothing."""

import json
import subprocess
import sys
from pathlib import Path

import grpc
import psutil
import pytest

from updraft.proto.v1 import collaboration_pb2 as pb
from updraft.proto.v1 import collaboration_pb2_grpc as rpc

_FUZZER = Path(__file__).parents[1] / "fuzzer"
# Two runs, each of more frames than are asked for: those of streams that are cut do not all arrive.
_FRAMES = 78_000
_ARRIVE = 100_000
_MIB = 1 << 20
_GROWTH_MIB = 12
_CONFIG = """
[sessions]
max_sessions = 48
memory_mib = 2
idle_expiry_s = 8
gap_timeout_s = 1
"""


@pytest.fixture
def fuzz(tmp_path):
    """Return a function that fuzzes a coordinator while it calls another; gives the report."""

    def run(daemon, bundle, seed, frames, meanwhile):
        command = [_FUZZER, daemon.address, "--bundle", bundle.folder]
        command += ["--seed", seed, "--frames", frames]
        path = tmp_path / "report.json"
        with path.open("w") as out:
            process = subprocess.Popen([sys.executable, *map(str, command)], stdout=out)
        try:
            while process.poll() is None:
                meanwhile()
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, path.read_text()
        return json.loads(path.read_text())

    return run


@pytest.fixture
def neighbour(start_engine, complete):
    """Return a function that makes an honest client, whose every text must come out right."""

    def make(daemon, bundle):
        engine = start_engine(daemon.address, of=bundle)
        requests = [
            (prompt, mode, {"wire": wire, "max_tokens": 24, **sampling})
            for prompt in ("def add(a, b):", "for item in items:\n")
            for wire, sampling in (("bf16", {}), ("int8", {"temperature": 0.9, "seed": 3}))
            for mode in ("lossless", "ids", "cloud")
        ]
        right = [complete(engine, prompt, "full", **choices) for prompt, _, choices in requests]

        def work():
            for (prompt, mode, choices), expected in zip(requests, right, strict=True):
                result = complete(engine, prompt, mode, **choices)
                assert result.tokens == expected.tokens, (mode, choices)
                assert not result.degraded, (mode, choices)

        return work

    return make


@pytest.fixture
def settle(wait_until):
    """Return a function that waits until nobody is left; gives what was counted, and memory."""

    def wait(daemon):
        with grpc.insecure_channel(daemon.address) as channel:
            stub = rpc.CollaborationStub(channel)

            def nobody_is_left():
                told = stub.Describe(pb.DescribeRequest(), timeout=30)
                return not (told.sessions or told.statistics.detached_sessions)

            wait_until(nobody_is_left)
            statistics = stub.Describe(pb.DescribeRequest(), timeout=30).statistics
        assert statistics.memory_bytes == 0
        return statistics, psutil.Process(daemon.process.pid).memory_info().rss / _MIB

    return wait


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_hundred_thousand_frames_disturb_nobody_and_leave_nothing_behind(
    tiny_bundle, start_coordinator, neighbour, fuzz, settle
):
    daemon = start_coordinator("--bundle", tiny_bundle.folder, config=_CONFIG)
    work = neighbour(daemon, tiny_bundle)
    fuzz(daemon, tiny_bundle, 1, _FRAMES, work)
    _, warm_mib = settle(daemon)
    report = fuzz(daemon, tiny_bundle, 2, _FRAMES, work)
    statistics, after_mib = settle(daemon)
    assert after_mib <= warm_mib + _GROWTH_MIB
    assert statistics.frames >= _ARRIVE
    assert statistics.peak_memory_bytes <= 2 * _MIB
    # It was no quiet run: everything that a coordinator can say was said.
    assert {"verdict", "verdict rejected", "token", "opened resumed"} <= report["answers"].keys()
    assert min(statistics.spilled, statistics.restored, statistics.evicted) > 0


def test_texts_beyond_the_context_and_bad_frames_go_together(
    sliding_bundle, start_coordinator, neighbour, fuzz, settle
):
    daemon = start_coordinator("--bundle", sliding_bundle.folder, config=_CONFIG)
    fuzz(daemon, sliding_bundle, 3, 4_000, neighbour(daemon, sliding_bundle))
    settle(daemon)
