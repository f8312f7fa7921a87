"""Turn a curriculum into lesson plans, module by module, in the background."""
