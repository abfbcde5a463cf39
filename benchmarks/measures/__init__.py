"""What benchmarks measure, one module each; every module has `measure(bench) -> Section`."""
