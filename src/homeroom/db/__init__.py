"""Connections, transactions and migrations; no SQL of a feature."""
