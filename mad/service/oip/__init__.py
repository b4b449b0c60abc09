"""The Open Inference Protocol: the model's own outputs, and scores beside them, in one call."""
