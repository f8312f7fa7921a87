"""What is done with this tree, by `generate_workload` and by its tests and benchmarks."""
