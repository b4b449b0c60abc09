"""One file of code, one file of tests."""
