"""The task: 1797 handwritten digits of 8 x 8 pixels, and softmax regression in plain NumPy."""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

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
    """Return the weights and the bias of an untrained model."""
    return [np.zeros((64, 10), np.float32), np.zeros(10, np.float32)]


def predict(model, images):
    """Return the probability of each digit, an array of shape (images, 10)."""
    weights, bias = model
    scores = images @ weights + bias
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def train(model, images, labels, config, batch_size=16):
    """Change the model in place by stochastic gradient descent."""
    weights, bias = model
    for _ in range(config["local-epochs"]):
        # Umbel seeds NumPy for every client and round, so the shuffling can be repeated.
        order = np.random.permutation(len(images))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            slope = (predict(model, images[batch]) - np.eye(10)[labels[batch]]) / len(batch)
            weights -= config["learning-rate"] * images[batch].T @ slope
            bias -= config["learning-rate"] * slope.sum(axis=0)


def evaluate(model, images, labels):
    """Return the mean cross-entropy and the share of right answers."""
    probabilities = predict(model, images)
    loss = -np.log(probabilities[np.arange(len(labels)), labels] + 1e-9).mean()
    return loss, (probabilities.argmax(axis=1) == labels).mean()
