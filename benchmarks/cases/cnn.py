"""A small CNN on Fashion-MNIST over 100 clients: one epoch over 600 images, one torch thread."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import torch
from torch import nn

FOLDER = Path("/usr/share/datasets/fashion-mnist")
CLIENTS = 100
BATCH = 32


def _read(name: str) -> np.ndarray:
    data = gzip.decompress((FOLDER / name).read_bytes())
    shape = [int.from_bytes(data[4 + 4 * i : 8 + 4 * i], "big") for i in range(data[3])]
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def load() -> tuple[torch.Tensor, torch.Tensor]:
    """Return the 60,000 training images (n, 1, 28, 28) in [0, 1] and their labels."""
    images = torch.from_numpy(_read("train-images-idx3-ubyte.gz").copy())
    labels = torch.from_numpy(_read("train-labels-idx1-ubyte.gz").astype(np.int64))
    return images[:, None].float() / 255, labels


def make_net() -> nn.Module:
    """Return the CNN: 2 convolutions, 2 linear layers, 421,642 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 116),
        nn.ReLU(),
        nn.Linear(116, 10),
    )


def train(net: nn.Module, images: torch.Tensor, labels: torch.Tensor, client: int) -> float:
    """Train one epoch on a client's 600 images; return the last loss."""
    size = len(images) // CLIENTS
    own = slice(client * size, (client + 1) * size)
    x, y = images[own], labels[own]
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    order = torch.randperm(len(x))
    loss = torch.zeros(())
    for start in range(0, len(x), BATCH):
        batch = order[start : start + BATCH]
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
    return loss.item()
