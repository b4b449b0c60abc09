"""Exchange formats, against checkpoints made by the libraries themselves."""
