"""The toolkit of all routes: identity, paging, limits, problem documents."""
