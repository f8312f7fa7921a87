"""Partner systems to develop and test against: real HTTP servers on loopback, in one process.

This package is the other side of Homeroom's contracts, so it imports nothing else of Homeroom:
a mistake in how Homeroom reads its own contract can't be repeated here by accident.
Importing it is free; `homeroom.sandbox.server` holds what starts it.
"""
