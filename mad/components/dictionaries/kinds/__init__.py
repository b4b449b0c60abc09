"""Kinds of sparse dictionaries, one file each: the encoder, and the learner that trains it."""
