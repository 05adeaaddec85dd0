"""Tables from the kept results under benchmarks/results/."""
