"""What runs in an environment of its own, with the libraries whose formats are tested."""
