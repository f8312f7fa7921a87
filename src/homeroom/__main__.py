"""``python -m homeroom``: the same as the ``homeroom`` command."""

from homeroom.cli import main

main()
