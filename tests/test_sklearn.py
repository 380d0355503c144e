"""``labelfix.sklearn``: a classifier that finds wrong labels among those it is fitted on."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.metrics import average_precision_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_predict
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from written_texts import sentences

import labelfix
from labelfix.errors import LabelfixError
from labelfix.sklearn import LabelCleaner


@pytest.fixture(scope="module")
def digits():
    """Digits, their labels, a tenth of them wrong, and which."""
    values, true = load_digits(n_class=4, return_X_y=True)
    rng = np.random.default_rng(0)
    is_wrong = rng.random(len(true)) < 0.1
    return values, np.where(is_wrong, (true + rng.integers(1, 4, len(true))) % 4, true), is_wrong


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "estimator", [None, KNeighborsClassifier(3)], ids=["default", "no weights"]
)
def test_it_is_an_estimator_of_scikit_learn(estimator):
    check_estimator(LabelCleaner(estimator, cv=2))


def test_it_finds_wrong_labels(digits):
    values, given, is_wrong = digits
    cleaner = LabelCleaner(KNeighborsClassifier(15), precision=0.8).fit(values, given)
    assert average_precision_score(is_wrong, cleaner.label_error_probability_) > 0.8
    assert cleaner.is_label_issue_[is_wrong].mean() > 0.7
    assert cleaner.sample_weight_.mean() == pytest.approx(1, abs=1e-4)
    mended = cleaner.suggested_label_ != given
    assert np.array_equal(mended, cleaner.is_label_issue_)
    assert cleaner.predict_proba(values[:5]).shape == (5, 4)
    assert set(cleaner.predict(values)) == {0, 1, 2, 3}


def test_it_is_what_cross_validation_and_find_label_issues_give(digits):
    values, given, _ = digits
    names = np.array(["zero", "one", "two", "three"])[given]
    cv = StratifiedKFold(4, shuffle=True, random_state=0)
    cleaner = LabelCleaner(GaussianNB(), cv=cv).fit(values, names)
    probs = cross_val_predict(GaussianNB(), values, names, cv=cv, method="predict_proba")
    found = labelfix.find_label_issues(names.tolist(), probs)
    assert cleaner.label_error_probability_.tobytes() == found.label_error_probability.tobytes()
    flagged = found.is_label_issue
    assert cleaner.suggested_label_[flagged].tolist() == found.suggested_label[flagged].tolist()


def test_it_works_in_a_pipeline_and_a_search(digits):
    values, given, _ = digits
    frame = pd.DataFrame(values)
    model = make_pipeline(StandardScaler(), LabelCleaner(KNeighborsClassifier(5), cv=3))
    assert model.fit(frame, given).score(frame, given) > 0.8
    assert len(model[-1].is_label_issue_) == len(given)
    inner = LabelCleaner(make_pipeline(StandardScaler(), GaussianNB()), cv=3).fit(frame, given)
    assert list(inner.estimator_.named_steps) == ["standardscaler", "gaussiannb"]
    search = GridSearchCV(model, {"labelcleaner__estimator__n_neighbors": [3, 7]}, cv=2)
    assert search.fit(frame, given).best_params_
    copy = clone(model[-1])
    assert copy.get_params()["estimator__n_neighbors"] == 5
    assert not hasattr(copy, "is_label_issue_")


def test_texts_go_to_whatever_takes_them():
    texts, labels = sentences(20)
    cleaner = LabelCleaner(make_pipeline(TfidfVectorizer(), LogisticRegression()), cv=3)
    assert cleaner.fit(texts, labels).score(texts, labels) > 0.8


def test_what_cannot_be_used_is_said(digits):
    values, given, _ = digits
    with pytest.raises(LabelfixError, match="Perceptron has no predict_proba"):
        LabelCleaner(Perceptron()).fit(values, given)
    with pytest.raises(LabelfixError, match="budget -1 is below"):
        LabelCleaner(GaussianNB(), budget=-1).fit(values, given)
    with pytest.raises(ValueError, match="needs two classes or more"):
        LabelCleaner().fit(values, np.zeros(len(values), int))
    with pytest.raises(ValueError, match="class '9' has one sample"):
        LabelCleaner().fit(values, np.r_[9, given[1:]])
