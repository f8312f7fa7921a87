"""The built-in directory of people, and their export and erasure."""
