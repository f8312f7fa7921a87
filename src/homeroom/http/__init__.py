"""Build the application that answers HTTP."""
