"""Export of lesson plans to files for other programs."""
