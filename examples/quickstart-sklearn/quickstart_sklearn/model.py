"""Logistic regression, trained by stochastic gradient descent."""

import numpy as np
from sklearn.linear_model import SGDClassifier
from sklearn.metrics import log_loss

CLASSES = np.array([0, 1])


def initial(features=30):
    """Return the coefficients and the intercept of an untrained model."""
    return [np.zeros((1, features)), np.zeros(1)]


def classifier(arrays, learning_rate=0.01):
    """Return scikit-learn's estimator with these coefficients and this intercept."""
    estimator = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=learning_rate)
    estimator.coef_, estimator.intercept_ = arrays
    estimator.classes_ = CLASSES
    return estimator


def train(arrays, inputs, diagnoses, learning_rate, epochs):
    """Return the coefficients and the intercept after some epochs."""
    estimator = classifier(arrays, learning_rate)
    for _ in range(epochs):
        estimator.partial_fit(inputs, diagnoses, classes=CLASSES)
    return [estimator.coef_, estimator.intercept_]


def evaluate(arrays, inputs, diagnoses):
    """Return the mean cross-entropy and the share of right answers."""
    probabilities = classifier(arrays).predict_proba(inputs)
    return {
        "loss": log_loss(diagnoses, probabilities, labels=CLASSES),
        "accuracy": (probabilities.argmax(axis=1) == diagnoses).mean(),
    }
