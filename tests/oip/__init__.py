"""The Open Inference Protocol: wrap, proxy and mirror mode, and an unmodified tritonclient."""
