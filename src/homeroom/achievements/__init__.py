"""Achievements: rules about several courses, each awarded to a learner once."""
