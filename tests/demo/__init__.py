"""The demo: its images, its models, its claims."""
