"""The demo's monitored model: a small convolutional network that names a piece of clothing."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from mad.demo.images import CLASSES


class Classifier(nn.Module):
    """Three convolutions and two linear layers; 33,000 weights.

    Worth watching: ``shapes``, the last feature map [batch, 32, 7, 7], and ``summary``, the last
    hidden layer [batch, 64].
    """

    def __init__(self) -> None:
        super().__init__()
        self.edges = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.parts = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.shapes = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())
        self.pool = nn.MaxPool2d(2)
        self.summary = nn.Sequential(nn.Linear(32 * 3 * 3, 64), nn.ReLU())
        self.classes = nn.Linear(64, len(CLASSES))

    def forward(self, image: UInt8[Tensor, "batch 28 28"]) -> Float[Tensor, "batch class"]:
        """Return one logit for each class."""
        scaled = image.to(torch.float32).div(255).unsqueeze(1)
        shapes = self.shapes(self.parts(self.edges(scaled)))
        logits: Tensor = self.classes(self.summary(self.pool(shapes).flatten(1)))
        return logits


def build() -> Classifier:
    """Return an untrained classifier; this is the factory that the operator's settings name."""
    return Classifier()
