"""Feed of changes in commit order, for consumers that must miss nothing."""
