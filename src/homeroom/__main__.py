"""Run the ``homeroom`` command as ``python -m homeroom``."""

from homeroom.cli import main

main()
