"""Verb tables and fixed wording of the languages that the rules know."""
