"""Calls to partner systems, and the circuit breaker of each."""
