"""Gated attention blocks: a transcoder for attention, whose latents are heads."""
