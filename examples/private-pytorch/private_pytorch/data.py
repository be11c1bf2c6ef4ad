"""Scikit-learn's handwritten digits, dealt out to clients."""

from functools import cache

import numpy as np
import torch
from sklearn.datasets import load_digits

from umbel.partition import iid

TEST_SIZE = 360


@cache
def split():
    """Return the training and the test data, each as (images, labels) tensors."""
    digits = load_digits()
    images = torch.from_numpy((digits.data / 16).astype(np.float32))
    labels = torch.from_numpy(digits.target.astype(np.int64))
    order = np.random.default_rng(0).permutation(len(images))
    test, train = order[:TEST_SIZE], order[TEST_SIZE:]
    return (images[train], labels[train]), (images[test], labels[test])


def of_client(context):
    """Return the images and labels of the client that runs."""
    (images, labels), _ = split()
    node = context.node_config
    mine = iid(len(labels), node["num-partitions"], seed=0)[node["partition-id"]]
    return images[mine], labels[mine]
