"""A small convolutional network for images of any size."""

import torch
from torch import nn


def network():
    """Return an untrained network; torch is seeded by Umbel, so that a run can be repeated."""
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.AdaptiveMaxPool2d(4),
        nn.Flatten(),
        nn.Linear(32 * 4 * 4, 10),
    )


def with_arrays(arrays):
    """Return a network with the parameters of an ArrayRecord."""
    net = network()
    net.load_state_dict(arrays.to_torch_state_dict())
    return net


def train(net, images, labels, config):
    """Train the network in place on batches drawn at random; return their mean loss."""
    optimizer = torch.optim.SGD(net.parameters(), lr=config["learning-rate"], momentum=0.9)
    total = 0.0
    for batch in torch.randint(len(images), (config["local-steps"], config["batch-size"])):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / config["local-steps"]


@torch.no_grad()
def evaluate(net, images, labels):
    """Return the mean cross-entropy and the share of right answers."""
    scores = torch.cat([net(batch) for batch in images.split(1000)])
    loss = nn.functional.cross_entropy(scores, labels).item()
    return {"loss": loss, "accuracy": (scores.argmax(dim=1) == labels).float().mean().item()}
