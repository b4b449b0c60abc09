"""Codes for activity: the more usual the activity, the fewer the bits."""
