"""One script a format, named for the format it makes."""
