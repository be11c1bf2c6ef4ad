"""The task: 1797 handwritten digits of 8 x 8 pixels, and a small network in PyTorch."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from umbel.partition import dirichlet


@cache
def load_data():
    """Return train images, test images, train labels, test labels."""
    digits = load_digits()
    images = (digits.data / 16).astype(np.float32)
    return train_test_split(images, digits.target, test_size=360, random_state=0)


@cache
def partitions(num_partitions, alpha):
    """Return, for each client, the indices of the images that belong to it."""
    return dirichlet(load_data()[2], num_partitions, alpha, min_partition_size=1, seed=0)


def my_data(context):
    """Return the images and labels of the client that runs."""
    images, _, labels, _ = load_data()
    node, alpha = context.node_config, context.run_config["alpha"]
    mine = partitions(node["num-partitions"], alpha)[node["partition-id"]]
    return images[mine], labels[mine]


def new_model():
    """Return an untrained network."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def train(model, images, labels, config, batch_size=16):
    """Train the network in place."""
    images, labels = torch.from_numpy(images), torch.from_numpy(labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=config["learning-rate"], momentum=0.5)
    for _ in range(config["local-epochs"]):
        # Umbel seeds torch for every client and round, so the shuffling can be repeated.
        for batch in torch.randperm(len(images)).split(batch_size):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()


@torch.no_grad()
def evaluate(model, images, labels):
    """Return the mean cross-entropy and the share of right answers."""
    scores, labels = model(torch.from_numpy(images)), torch.from_numpy(labels)
    loss = nn.functional.cross_entropy(scores, labels).item()
    return loss, (scores.argmax(dim=1) == labels).float().mean().item()
