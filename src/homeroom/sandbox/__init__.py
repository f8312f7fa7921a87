"""Partner systems to develop and test against, as real servers on loopback.

This package is the other side of Homeroom's contracts, so it imports no other package of Homeroom:
a mistake in how Homeroom reads its own contract cannot be repeated here by accident.
`homeroom.sandbox.server` starts the servers.
"""
