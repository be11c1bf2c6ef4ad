"""What the reproductions learn: Fashion-MNIST in 14 x 14 pixels, by a network of one hidden layer.

The images come from Debian's package `dataset-fashion-mnist`; where it is not installed,
scikit-learn's digits take their place. A NumPy client is fast enough for a model of this size.
"""

import functools
import gzip
import itertools
from pathlib import Path

import numpy as np

from umbel.base import Seeds
from umbel.records import ArrayRecord

FASHION = Path("/usr/share/datasets/fashion-mnist")
CLASSES, HIDDEN, BATCH = 10, 64, 32
FASHION_PARTS = {  # of the first file's images or the second's: minutes on two cores
    "train": ("train", 0, 10_000),
    "validation": ("train", 10_000, 12_000),
    "test": ("t10k", 0, 5_000),
}
DIGITS_PARTS = {"train": (0, 1_200), "validation": (1_200, 1_400), "test": (1_400, 1_797)}


def data_name():
    return "Fashion-MNIST" if FASHION.is_dir() else "digits"


@functools.cache
def data(part):
    """Return images in [0, 1], a row each, and labels: of "train", "validation" or "test"."""
    if not FASHION.is_dir():
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        order = Seeds(7).child("digits").numpy().permutation(len(labels))
        rows = order[slice(*DIGITS_PARTS[part])]
        return (images[rows] / 16).astype(np.float32), labels[rows]
    name, start, stop = FASHION_PARTS[part]
    with gzip.open(FASHION / f"{name}-labels-idx1-ubyte.gz") as file:
        labels = np.frombuffer(file.read(8 + stop), np.uint8, offset=8)[start:].astype(np.int64)
    with gzip.open(FASHION / f"{name}-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(16 + 784 * stop), np.uint8, offset=16 + 784 * start)
    images = pixels.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4), dtype=np.float32) / 255
    return images.reshape(len(labels), -1), labels


def initial_arrays(seed):
    rng = Seeds(seed).child("model").numpy()
    sizes = (data("train")[0].shape[1], HIDDEN, CLASSES)
    model = {}
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes), 1):
        model[f"w{layer}"] = rng.normal(0, np.sqrt(2 / n_in), (n_in, n_out)).astype(np.float32)
        model[f"b{layer}"] = np.zeros(n_out, np.float32)
    return ArrayRecord(model)


def forward(model, x):
    hidden = np.maximum(x @ model["w1"] + model["b1"], 0)
    return hidden, hidden @ model["w2"] + model["b2"]


def gradients(model, x, y):
    """Return the gradients of the mean cross entropy."""
    hidden, scores = forward(model, x)
    p = np.exp(scores - scores.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(y)), y] -= 1
    p /= np.float32(len(y))
    back = (p @ model["w2"].T) * (hidden > 0)
    return {"w2": hidden.T @ p, "b2": p.sum(axis=0), "w1": x.T @ back, "b1": back.sum(axis=0)}


def sgd(model, x, y, epochs, learning_rate, term=None):
    """Train the model in place by plain SGD, with a local term; return the number of steps."""
    rate, steps = np.float32(learning_rate), 0
    for _ in range(epochs):
        order = np.random.permutation(len(y))  # the simulation has seeded it for this client
        for start in range(0, len(y), BATCH):
            batch = order[start : start + BATCH]
            step = gradients(model, x[batch], y[batch])
            if term is not None:
                step = term.corrected(step, model)
            for key in model:
                model[key] -= rate * step[key]
            steps += 1
    return steps


def accuracy(model, x, y):
    return float((forward(model, x)[1].argmax(axis=1) == y).mean())
