"""What is run by the Python that has tritonclient and MLServer; nothing here imports ``mad``."""
