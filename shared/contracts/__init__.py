"""The wire types: frozen pydantic models of every request, result and event. Imports pydantic alone."""
