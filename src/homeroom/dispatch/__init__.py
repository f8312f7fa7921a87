"""Messages to partner systems about completions."""
