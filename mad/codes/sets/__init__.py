"""Codes for active sets, one file each."""
