"""Run what must follow: the job kernel, which knows no feature."""
