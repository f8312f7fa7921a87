"""Facilitators' weekly logs: obligations, reminders, reports."""
