"""Engines that need more than the database."""
