"""The task: 1797 handwritten digits of 8 x 8 pixels, and softmax regression in JAX."""

from functools import cache

import jax
import jax.numpy as jnp
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
    """Return the parameters of an untrained model; any tree of arrays would do."""
    return {"weights": jnp.zeros((64, 10)), "bias": jnp.zeros(10)}


def scores(model, images):
    """Return a score for each digit, an array of shape (images, 10)."""
    return images @ model["weights"] + model["bias"]


def loss_of(model, images, labels):
    """Return the mean cross-entropy."""
    chances = jax.nn.log_softmax(scores(model, images))
    return -jnp.take_along_axis(chances, labels[:, None], axis=1).mean()


@jax.jit
def step(model, images, labels, learning_rate):
    """Return the model after one step of gradient descent."""
    slopes = jax.grad(loss_of)(model, images, labels)
    return jax.tree.map(lambda value, slope: value - learning_rate * slope, model, slopes)


def train(model, images, labels, config, batch_size=16):
    """Return the trained model."""
    # Umbel seeds NumPy for every client and round, so the batches can be repeated.
    for batch in np.random.randint(len(images), size=(config["local-steps"], batch_size)):
        model = step(model, images[batch], labels[batch], config["learning-rate"])
    return model


def evaluate(model, images, labels):
    """Return the mean cross-entropy and the share of right answers."""
    right = scores(model, images).argmax(axis=1) == labels
    return float(loss_of(model, images, labels)), float(right.mean())
