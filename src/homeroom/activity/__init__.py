"""Know what facilitators owe for each week, and who has to hear of it."""
