"""Tests of what calls come to."""
