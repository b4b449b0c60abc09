"""Models whose mechanisms are known."""
