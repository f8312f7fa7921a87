"""Take events in and keep chapter and course progress right."""
