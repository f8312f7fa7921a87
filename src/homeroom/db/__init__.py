"""Keep connections, transactions and migrations; no SQL of a feature."""
