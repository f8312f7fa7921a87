"""The HTTP application, its server, and the supervisor of its processes."""
