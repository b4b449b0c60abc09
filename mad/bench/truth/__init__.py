"""Models whose mechanisms are known, and inputs that use them as trusted ones never do."""
