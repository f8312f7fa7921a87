"""Give every routes.py what it needs: identity and roles, paging, limits, problem documents."""
