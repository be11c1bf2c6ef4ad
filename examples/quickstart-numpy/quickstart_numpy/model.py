"""A network with one hidden layer. A model is a list: weights, bias, weights, bias."""

import numpy as np

CLASSES = 10


def initial(hidden_units, pixels=64):
    """Return an untrained model; NumPy is seeded by Umbel, so that a run can be repeated."""

    def layer(inputs, outputs):
        weights = np.random.normal(0, np.sqrt(2 / inputs), (inputs, outputs))
        return [weights.astype(np.float32), np.zeros(outputs, np.float32)]

    return layer(pixels, hidden_units) + layer(hidden_units, CLASSES)


def forward(model, images):
    """Return the hidden layer and the probability of each class."""
    hidden = np.maximum(images @ model[0] + model[1], 0)
    scores = hidden @ model[2] + model[3]
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    return hidden, scores / scores.sum(axis=1, keepdims=True)


def gradients(model, images, labels):
    """Return the slope of the mean cross-entropy in each of the model's arrays."""
    hidden, probabilities = forward(model, images)
    error = probabilities
    error[np.arange(len(labels)), labels] -= 1
    error /= len(labels)
    hidden_error = (error @ model[2].T) * (hidden > 0)
    return [images.T @ hidden_error, hidden_error.sum(0), hidden.T @ error, error.sum(0)]


def train(model, data, learning_rate, epochs, batch_size):
    """Change the model in place by stochastic gradient descent."""
    images, labels = data
    for _ in range(epochs):
        order = np.random.permutation(len(images))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            slopes = gradients(model, images[batch], labels[batch])
            for array, slope in zip(model, slopes, strict=True):
                array -= learning_rate * slope


def evaluate(model, data):
    """Return the mean cross-entropy and the share of right answers."""
    images, labels = data
    _, probabilities = forward(model, images)
    loss = -np.log(probabilities[np.arange(len(labels)), labels] + 1e-9).mean()
    return {"loss": loss, "accuracy": (probabilities.argmax(axis=1) == labels).mean()}
