"""Show what is going on: metrics and health."""
