"""Fits over the API: trusted inputs in, durable jobs, one process at a time, candidates out."""
