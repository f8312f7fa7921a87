"""Keep the built-in directory: who a person is, and how to reach them."""
