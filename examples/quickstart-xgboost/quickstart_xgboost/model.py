"""XGBoost's trees, and how they travel: as one array of bytes."""

import numpy as np
import xgboost

from umbel.records import ArrayRecord

PARAMETERS = {
    "objective": "binary:logistic",
    "max_depth": 3,
    "base_score": 0.5,  # or every hospital would begin at its own
    "nthread": 1,
}


def from_arrays(arrays):
    """Return the model in an array of bytes; ``None`` if there is none yet."""
    raw = arrays["0"].numpy().tobytes()
    if not raw:
        return None
    booster = xgboost.Booster({"nthread": 1})
    booster.load_model(bytearray(raw))
    return booster


def to_arrays(booster):
    """Return the model as an array of bytes."""
    return ArrayRecord([np.frombuffer(booster.save_raw("json"), np.uint8)])


def boost(before, patients, trees, learning_rate):
    """Return the model after some more trees."""
    parameters = PARAMETERS | {"eta": learning_rate}
    return xgboost.train(parameters, patients, trees, xgb_model=before)


def evaluate(booster, patients):
    """Return the mean cross-entropy and the share of right answers."""
    benign, diagnoses = booster.predict(patients), patients.get_label()
    right = np.where(diagnoses > 0.5, benign, 1 - benign)
    return {"loss": -np.log(right.clip(1e-7)).mean(), "accuracy": (right > 0.5).mean()}
