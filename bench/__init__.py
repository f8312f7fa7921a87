"""Measure Homeroom against its references, on the same machine in the same run."""
