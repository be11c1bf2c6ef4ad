import numpy as np
import pytest

from umbel.base import RecordError
from umbel.records.arrayrecord import ArrayRecord

pytestmark = pytest.mark.slow

X = np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
Y = np.array(["no", "yes", "no", "yes"])


@pytest.fixture(scope="module")
def sklearn():
    pytest.importorskip("sklearn")
    import sklearn.linear_model
    import sklearn.neural_network

    return sklearn


def test_a_classifier_comes_back(sklearn):
    fitted = sklearn.linear_model.LogisticRegression().fit(X, Y)
    record = ArrayRecord.from_sklearn(fitted)
    assert set(record) >= {"coef_", "intercept_", "classes_"}
    fresh = sklearn.linear_model.LogisticRegression()
    record.to_sklearn(fresh)
    assert np.array_equal(fresh.predict_proba(X), fitted.predict_proba(X))
    assert list(fresh.predict(X)) == list(Y)


def test_attributes_can_be_chosen(sklearn):
    fitted = sklearn.linear_model.LogisticRegression().fit(X, Y)
    record = ArrayRecord.from_sklearn(fitted, names=["coef_", "intercept_"])
    assert list(record) == ["coef_", "intercept_"]


def test_a_scalar_stays_a_scalar(sklearn):
    fitted = sklearn.linear_model.LinearRegression().fit(X, X[:, 0])
    fresh = sklearn.linear_model.LinearRegression()
    ArrayRecord.from_sklearn(fitted).to_sklearn(fresh)
    assert isinstance(fresh.intercept_, np.floating)
    assert np.array_equal(fresh.predict(X), fitted.predict(X))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_lists_of_arrays_come_back_as_lists(sklearn):
    options = {"hidden_layer_sizes": (3,), "max_iter": 2, "random_state": 0}
    fitted = sklearn.neural_network.MLPRegressor(**options).fit(X, X[:, 0])
    record = ArrayRecord.from_sklearn(fitted, names=["coefs_", "intercepts_"])
    assert list(record) == ["coefs_.0", "coefs_.1", "intercepts_.0", "intercepts_.1"]
    other = sklearn.neural_network.MLPRegressor(**options | {"random_state": 1})
    other.fit(X, X[:, 0])
    assert not np.array_equal(other.predict(X), fitted.predict(X))
    record.to_sklearn(other)
    assert np.array_equal(other.predict(X), fitted.predict(X))


def test_the_estimator_may_train_on(sklearn):
    fitted = sklearn.linear_model.SGDClassifier(random_state=0).fit(X, Y)
    record = ArrayRecord.from_sklearn(fitted, names=["coef_", "intercept_", "classes_"])
    before = record["coef_"].numpy()
    fresh = sklearn.linear_model.SGDClassifier(random_state=0)
    record.to_sklearn(fresh)
    fresh.partial_fit(X, Y, classes=np.unique(Y))
    assert np.array_equal(record["coef_"].view(), before)


def test_an_estimator_that_is_not_fitted_is_refused(sklearn):
    with pytest.raises(RecordError, match="LogisticRegression has no fitted arrays"):
        ArrayRecord.from_sklearn(sklearn.linear_model.LogisticRegression())
    with pytest.raises(RecordError, match="no arrays in this attribute"):
        ArrayRecord.from_sklearn(sklearn.linear_model.LogisticRegression(), names=["coef_"])


@pytest.mark.parametrize("name", ["C", "_private_", "coefs_.1", "coefs_.x", "fit"])
def test_other_names_are_not_set(sklearn, name):
    estimator = sklearn.linear_model.LogisticRegression()
    with pytest.raises(RecordError, match="no fitted attribute of this name"):
        ArrayRecord({name: np.zeros(1)}).to_sklearn(estimator)
    assert estimator.C == 1.0
