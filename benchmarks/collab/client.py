"""One of many clients: a process with an engine of its own, told what to do line by line.

    python -m updraft.benchmarks.collab.client BUNDLE

Each line of JSON on standard input is a job: where to connect, a row, prompts, how many tokens. It
answers `ready`, starts at the next line, and answers with what came of it. It ends with its input.
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from time import perf_counter
from typing import Any

from updraft.benchmarks.collab.plan import Row
from updraft.benchmarks.collab.stage import as_paper, connect
from updraft.benchmarks.measures.bench import PATIENT
from updraft.config.endpoint import parse_endpoint
from updraft.edge.engine import Engine
from updraft.edge.request import GenerationRequest
from updraft.models.bundle import open_bundle


def main() -> None:
    """Do jobs until the input ends."""
    bundle = open_bundle(Path(sys.argv[1]))
    engines: dict[tuple[str, bool], Engine] = {}
    print("up", flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        row = Row(**job["row"])
        kind = (job["endpoint"], row.paper)
        if kind not in engines:
            own = as_paper(bundle) if row.paper else bundle
            endpoint = parse_endpoint(job["endpoint"])
            engines[kind] = connect(own, endpoint, PATIENT, whole_model=False)
        # The first completion of a kind pays for what is made once, the connection included.
        _work(engines[kind], row, job | {"prompts": job["prompts"][:1], "max_tokens": 4})
        print("ready", flush=True)
        sys.stdin.readline()
        print(json.dumps(_work(engines[kind], row, job)), flush=True)


def _work(engine: Engine, row: Row, job: dict[str, Any]) -> dict[str, Any]:
    """Complete the prompts of a job one after the other."""
    done: dict[str, Any] = {"tokens": 0, "edge_s": 0.0, "gaps_s": [], "texts": []}
    done["degraded"] = False
    for number, prompt in job["prompts"]:
        generation = engine.start(
            GenerationRequest(
                prompt,
                max_tokens=job["max_tokens"],
                temperature=job["temperature"],
                seed=number,
                **row.choices(),
            )
        )
        arrivals = [perf_counter() for _ in generation]
        result = generation.result
        done["tokens"] += len(result.tokens)
        done["edge_s"] += result.edge_s
        done["degraded"] |= result.degraded
        done["texts"].append(result.tokens)
        done["gaps_s"] += [b - a for a, b in pairwise(arrivals)]
    return done


if __name__ == "__main__":
    main()
