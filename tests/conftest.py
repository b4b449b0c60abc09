"""Shared by every test."""

import torch

# The tests share the machine with one another and with servers they start.
torch.set_num_threads(1)
