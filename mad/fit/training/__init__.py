"""Dictionaries trained side by side: activations in, read a few at a time, dictionaries out."""
