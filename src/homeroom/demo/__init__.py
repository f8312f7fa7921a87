"""Play a class of learners through HTTP and check what came of it."""
