"""Stand in for partner systems as real servers on loopback."""
