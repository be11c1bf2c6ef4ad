"""The task: 1797 handwritten digits of 8 x 8 pixels, and scikit-learn's linear classifier."""

from functools import cache

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split

from umbel.partition import dirichlet

DIGITS = np.arange(10)


@cache
def load_data():
    """Return train images, test images, train labels, test labels."""
    digits = load_digits()
    return train_test_split(digits.data / 16, digits.target, test_size=360, random_state=0)


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
    """Return the coefficients and intercepts of an untrained model."""
    return [np.zeros((10, 64)), np.zeros(10)]


def classifier(parameters, learning_rate=0.05):
    """Return a logistic regression with these parameters."""
    model = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=learning_rate)
    model.coef_, model.intercept_ = parameters
    model.classes_ = DIGITS
    return model


def train(parameters, images, labels, config):
    """Return the parameters after some epochs of stochastic gradient descent."""
    model = classifier(parameters, config["learning-rate"])
    for _ in range(config["local-epochs"]):
        # A client may lack some digits; the model must know all of them.
        model.partial_fit(images, labels, classes=DIGITS)
    return [model.coef_, model.intercept_]


def evaluate(parameters, images, labels):
    """Return the mean cross-entropy and the share of right answers."""
    probabilities = classifier(parameters).predict_proba(images)
    accuracy = (probabilities.argmax(axis=1) == labels).mean()
    return log_loss(labels, probabilities, labels=DIGITS), accuracy
