"""Decide once that a course is complete; its steps register in wiring."""
