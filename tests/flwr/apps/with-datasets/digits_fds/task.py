"""Softmax regression on scikit-learn's digits, cut into clients by Flower Datasets."""

import numpy as np
from datasets import Dataset, DatasetDict
from flwr_datasets import FederatedDataset
from flwr_datasets.partitioner import DirichletPartitioner
from flwr_datasets.preprocessor import Divider
from sklearn.datasets import load_digits

fds = None


def federated(num_partitions):
    global fds
    if fds is None:
        digits = load_digits()
        images = (digits.data / 16.0).astype(np.float32)
        data = Dataset.from_dict({"image": images, "label": digits.target})
        partitioner = DirichletPartitioner(num_partitions, partition_by="label", alpha=5.0)
        fds = FederatedDataset(
            dataset=DatasetDict({"all": data}),
            preprocessor=Divider({"train": 0.8, "test": 0.2}, divide_split="all"),
            partitioners={"train": partitioner},
        )
    return fds


def arrays(dataset):
    dataset = dataset.with_format("numpy")
    return dataset["image"][:].astype(np.float32), dataset["label"][:]


def load_data(partition_id, num_partitions):
    partition = federated(num_partitions).load_partition(partition_id)
    halves = partition.train_test_split(test_size=0.2, seed=42)
    return arrays(halves["train"]), arrays(halves["test"])


def load_test_data():
    return arrays(federated(4).load_split("test"))


def new_model():
    return [np.zeros((64, 10), np.float32), np.zeros(10, np.float32)]


def probabilities(model, images):
    scores = images @ model[0] + model[1]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def train(model, images, labels, lr, steps=20):
    for _ in range(steps):
        error = probabilities(model, images)
        error[np.arange(len(labels)), labels] -= 1
        model[0] -= lr * images.T @ error / len(labels)
        model[1] -= lr * error.mean(axis=0)
    return model


def test(model, images, labels):
    found = probabilities(model, images)
    loss = -np.log(found[np.arange(len(labels)), labels] + 1e-9).mean()
    return float(loss), float((found.argmax(axis=1) == labels).mean())
