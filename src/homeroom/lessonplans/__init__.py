"""Generate lesson plans from a curriculum, module by module, in the background."""
