"""Completions of courses and the steps that must follow each of them."""
