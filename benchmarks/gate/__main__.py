"""`python -m updraft.benchmarks.gate`: see `regret`."""

from updraft.benchmarks.gate.regret import main

main()
