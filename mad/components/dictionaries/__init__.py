"""Sparse dictionaries, one file a kind."""
