"""Credentials for completed courses, issued through Credly."""
