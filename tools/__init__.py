"""What is done with this tree, by `make` and by its tests and benchmarks."""
