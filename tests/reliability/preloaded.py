"""Imported once by the fork server: what is fitted here, each server process has at its start."""

import torch

from tests.reliability.serving import world

# A process that is forked from one with threads of its own may hang.
torch.set_num_threads(1)
world()
