"""Metrics, health checks and change hints of a process."""
