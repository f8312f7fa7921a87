"""Issue what a finished course earns."""
