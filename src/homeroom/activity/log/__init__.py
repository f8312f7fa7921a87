"""Logs over HTTP."""
