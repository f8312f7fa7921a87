"""Backups, restores and copies of a whole installation."""
