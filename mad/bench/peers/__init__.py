"""What others would score: every peer is online, and reads trusted data and the model alone."""
