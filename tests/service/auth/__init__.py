"""Who may do what, on a real server."""
