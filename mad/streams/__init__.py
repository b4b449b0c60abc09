"""Evidence that a stream of inputs is no longer like trusted data, valid at any time one looks."""
