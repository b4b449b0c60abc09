"""What calls come to: a server of handlers in the event loop."""
