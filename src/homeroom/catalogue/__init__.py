"""Catalogue: courses in their versions, and enrolments."""
