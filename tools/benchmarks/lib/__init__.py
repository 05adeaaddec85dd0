"""What the benchmarks share; imported as ``lib``, beside the entry."""
