"""API keys, sessions and the audit trail."""
