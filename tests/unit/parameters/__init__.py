"""The matrices of a model and their rank-one pieces."""
