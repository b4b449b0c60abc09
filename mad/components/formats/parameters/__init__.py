"""Parameter decompositions of other libraries, read and written."""
