"""Keep the engines: who runs which job row when."""
