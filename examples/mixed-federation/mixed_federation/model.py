"""Softmax regression. A model is a dict: weights (64, 10) and bias (10,), both float32."""

import numpy as np


def initial():
    """Return an untrained model."""
    return {"weights": np.zeros((64, 10), np.float32), "bias": np.zeros(10, np.float32)}


def probabilities(model, images):
    """Return the probability of each class for each image."""
    scores = images @ model["weights"] + model["bias"]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return scores / scores.sum(axis=1, keepdims=True)


def train(model, images, labels, learning_rate, epochs):
    """Return the model after some steps of gradient descent on all the images."""
    weights, bias = model["weights"].copy(), model["bias"].copy()
    for _ in range(epochs):
        error = probabilities({"weights": weights, "bias": bias}, images)
        error[np.arange(len(labels)), labels] -= 1
        weights -= learning_rate * (images.T @ error) / len(labels)
        bias -= learning_rate * error.mean(axis=0)
    return {"weights": weights, "bias": bias}


def evaluate(model, images, labels):
    """Return the mean cross-entropy and the share of right answers."""
    likely = probabilities(model, images)
    loss = -np.log(likely[np.arange(len(labels)), labels] + 1e-9).mean()
    return {"loss": loss, "accuracy": (likely.argmax(axis=1) == labels).mean()}
