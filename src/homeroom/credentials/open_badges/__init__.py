"""Credentials that this installation signs itself: Open Badges 3.0."""
