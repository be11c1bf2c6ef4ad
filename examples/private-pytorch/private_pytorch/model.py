"""A small network, trained so that no single image can be told from the result."""

import torch
from opacus import GradSampleModule
from opacus.data_loader import DPDataLoader
from opacus.optimizers import DPOptimizer
from torch import nn
from torch.utils.data import TensorDataset


def network():
    """Return an untrained network; torch is seeded by Umbel, so that a run can be repeated."""
    return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))


def with_arrays(arrays):
    """Return a network with the parameters of an ArrayRecord."""
    net = network()
    net.load_state_dict(arrays.to_torch_state_dict())
    return net


def train_privately(net, images, labels, learning_rate, asked):
    """Train the network in place by DP-SGD, by the numbers that the server asked for."""
    rate = asked["sampling-rate"]
    batches = DPDataLoader(TensorDataset(images, labels), sample_rate=rate)
    private = GradSampleModule(net)
    optimizer = DPOptimizer(
        torch.optim.SGD(net.parameters(), lr=learning_rate),
        noise_multiplier=asked["noise-multiplier"],
        max_grad_norm=asked["max-norm"],
        expected_batch_size=rate * len(images),
    )
    steps = 0
    while steps < asked["steps"]:
        for x, y in batches:
            optimizer.zero_grad()
            x.requires_grad_()  # torch warns of Opacus's hooks where no input asks for gradients
            nn.functional.cross_entropy(private(x), y).backward()
            optimizer.step()
            steps += 1
            if steps == asked["steps"]:
                break


@torch.no_grad()
def evaluate(net, images, labels):
    """Return the mean cross-entropy and the share of right answers."""
    scores = net(images)
    loss = nn.functional.cross_entropy(scores, labels).item()
    return {"loss": loss, "accuracy": (scores.argmax(dim=1) == labels).float().mean().item()}
