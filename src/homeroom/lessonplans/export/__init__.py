"""Lesson plans as files that other programs open."""
