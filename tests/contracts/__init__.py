"""Promises that every implementation keeps, one file a promise."""
