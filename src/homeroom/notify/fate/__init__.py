"""What became of messages, over HTTP."""
