"""Fashion-MNIST where it is installed, else scikit-learn's digits; cut into clients."""

import gzip
from functools import cache
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from umbel.partition import dirichlet

# Of Fashion-MNIST's 10,000; to judge all of them would take longer than to learn.
TEST_SIZE = 2000


def read_idx(path):
    """Return the array in a compressed IDX file of unsigned bytes."""
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", count=dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def fashion_mnist(folder):
    """Return 60,000 images of 28 x 28 pixels to train on and 2000 to test with."""
    return tuple(
        (
            read_idx(folder / f"{part}-images-idx3-ubyte.gz")[:size],
            read_idx(folder / f"{part}-labels-idx1-ubyte.gz")[:size],
        )
        for part, size in (("train", None), ("t10k", TEST_SIZE))
    )


def digits():
    """Return 1437 images of 8 x 8 pixels to train on and 360 to test with."""
    source = load_digits()
    images, labels = (source.images * (255 / 16)).astype(np.uint8), source.target
    order = np.random.default_rng(0).permutation(len(images))
    return tuple((images[part], labels[part]) for part in (order[360:], order[:360]))


@cache
def split(data_dir):
    """Return the training and the test data, each as (images, labels), one byte a pixel."""
    folder = Path(data_dir)
    installed = (folder / "train-images-idx3-ubyte.gz").is_file()
    return fashion_mnist(folder) if installed else digits()


@cache
def partitions(data_dir, num_partitions, alpha):
    """Return, for each client, the indices of the images that belong to it."""
    (_, labels), _ = split(data_dir)
    return dirichlet(labels, num_partitions, alpha, min_partition_size=5, seed=0)


def of_client(context):
    """Return the images and labels of the client that runs, as tensors."""
    config, node = context.run_config, context.node_config
    parts = partitions(config["data-dir"], node["num-partitions"], config["alpha"])
    (images, labels), _ = split(config["data-dir"])
    mine = parts[node["partition-id"]]
    return tensors(images[mine], labels[mine])


def tensors(images, labels):
    """Return images as floats in [0, 1] with one channel, and labels as integers."""
    pixels = torch.from_numpy(images.astype(np.float32) / 255)[:, None]
    return pixels, torch.from_numpy(labels.astype(np.int64))
