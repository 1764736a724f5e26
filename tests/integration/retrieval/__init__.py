"""Keeping and finding knowledge on a real Chroma server."""
