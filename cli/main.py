"""The `updraft` command."""

from __future__ import annotations

import os
import sys

import typer

# gRPC's own log would repeat, in its words, what our errors say; set before it is imported.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from updraft.cli import (
    bench,
    budget,
    bundle,
    cloud,
    demo,
    device,
    doctor,
    edge,
    fleet,
    generate,
    optimize,
)
from updraft.errors import ProblemError, UpdraftError

app = typer.Typer(
    help="Cloud-edge collaborative inference: the edge drafts, the cloud lifts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("demo")(demo.demo)
app.command("generate")(generate.generate)
app.add_typer(bench.app, name="bench")
app.add_typer(budget.app, name="budget")
app.add_typer(bundle.app, name="bundle")
app.add_typer(edge.app, name="edge")
app.add_typer(cloud.app, name="cloud")
app.add_typer(optimize.app, name="optimize")
app.add_typer(fleet.app, name="fleet")
app.add_typer(device.app, name="device")
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run a command; errors made for people are printed without a traceback.

    The exit code is then 2 for a problem that makes no sense, as for wrong options, and else 1.
    """
    try:
        app()
    except UpdraftError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, ProblemError) else 1)
    except BrokenPipeError:
        # The reader of our output went away; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
