"""Builds the application, the server and the worker from the settings."""
