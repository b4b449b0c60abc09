"""What becomes active in a running server: promoted here, or followed from the store."""
