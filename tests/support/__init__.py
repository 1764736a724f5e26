"""Servers, clusters and waiting for tests."""
