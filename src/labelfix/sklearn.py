"""A classifier of scikit-learn that finds the wrong labels among those that it is fitted on.

Letters: N samples, K classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.utils import get_tags, indexable
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _num_samples, check_is_fitted, column_or_1d, has_fit_parameter

from labelfix.errors import ConfigError
from labelfix.pipeline.label_issues import LabelIssues, find_label_issues

__all__ = ["LabelCleaner"]


def _estimator_has(name: str) -> Any:
    def has(cleaner: "LabelCleaner") -> bool:
        return hasattr(getattr(cleaner, "estimator_", cleaner.estimator), name)

    return has


class LabelCleaner(MetaEstimatorMixin, ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Finds wrong labels by cross-fitting a classifier, then fits it with less weight on them.

    The probabilities by which each label is scored come from a fit that never saw it. The
    classifier that predicts in the end is fitted with ``sample_weight_`` if it takes weights, else
    without the flagged samples.

    Args:
        estimator: Any classifier with ``predict_proba``; ``None`` takes logistic regression.
        cv: Folds, or any splitter of scikit-learn whose test folds are a partition. Of a number of
            folds, no more are made than the rarest class has samples.
        precision: Flag as many labels as leave this share of the flags right; ``None`` flags as
            many as make the expected F1 the highest.
        budget: Flag so many labels instead.
        n_jobs: Folds that are fitted at once, as `sklearn.model_selection.cross_val_predict` has
            it.

    Attributes:
        classes_: ``(K,)`` the classes, sorted.
        estimator_: The classifier that predicts.
        is_label_issue_: ``(N,)`` bool: the label is probably wrong.
        label_error_probability_: ``(N,)`` how probably.
        sample_weight_: ``(N,)`` of mean 1: how much each sample with its label should count.
        suggested_label_: ``(N,)`` the suggested label where one is flagged, else the given one.
        label_issues_: All that was found; its labels are positions in ``classes_``.
    """

    def __init__(
        self,
        estimator: Any = None,
        *,
        cv: Any = 5,
        precision: float | None = None,
        budget: int | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.cv = cv
        self.precision = precision
        self.budget = budget
        self.n_jobs = n_jobs

    def fit(self, X: Any, y: Any) -> "LabelCleaner":
        """Find the wrong labels of N samples, and fit the classifier.

        Args:
            X: ``(N, ...)`` samples, as the classifier takes them.
            y: ``(N,)`` their labels.

        Raises:
            ConfigError: The classifier knows no probabilities, or a setting cannot be used.
            ValueError: There are fewer than two classes, or one has a single sample.
        """
        X, y = indexable(X, y)
        if y is None:
            raise ValueError("LabelCleaner requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        estimator = self._classifier()
        if not hasattr(estimator, "predict_proba"):
            raise ConfigError(
                f"{type(estimator).__name__} has no predict_proba",
                hint="give a classifier with probabilities, or wrap it in CalibratedClassifierCV",
            )
        classes, codes = np.unique(y, return_inverse=True)
        probs = cross_val_predict(
            estimator,
            X,
            y,
            cv=self._folds(codes, classes),
            method="predict_proba",
            n_jobs=self.n_jobs,
        )
        self.classes_ = classes
        # rows belong together: it is no mix-up where a weak classifier knows nothing of the labels
        issues = find_label_issues(
            codes,
            np.asarray(probs, np.float64),
            precision=self.precision,
            budget=self.budget,
            force=True,
        )
        self._keep(issues, y)
        self.estimator_ = self._fitted(estimator, X, y)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        return self

    def predict(self, X: Any) -> NDArray[Any]:
        """Return ``(M,)`` the classes of other samples, by the classifier that was fitted."""
        check_is_fitted(self)
        return np.asarray(self.estimator_.predict(X))

    @available_if(_estimator_has("predict_proba"))  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> NDArray[np.floating]:
        """Return ``(M, K)`` the probabilities of other samples."""
        check_is_fitted(self)
        return np.asarray(self.estimator_.predict_proba(X))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags = get_tags(self._classifier()).input_tags
        return tags

    def _classifier(self) -> Any:
        return LogisticRegression() if self.estimator is None else clone(self.estimator)

    def _folds(self, codes: NDArray[np.int64], classes: NDArray[Any]) -> Any:
        """Return the folds: as many as the rarest class has samples, where a number was given."""
        if len(classes) < 2:
            raise ValueError("LabelCleaner needs two classes or more, and y holds one class")
        if not isinstance(self.cv, int | np.integer):
            return self.cv
        rarest = int(np.bincount(codes).min())
        if rarest < 2:
            raise ValueError(
                f"class {str(classes[np.bincount(codes).argmin()])!r} has one sample, which no "
                "fold can both train on and score"
            )
        return min(int(self.cv), rarest)

    def _keep(self, issues: LabelIssues, y: NDArray[Any]) -> None:
        self.label_issues_ = issues
        self.is_label_issue_ = issues.is_label_issue
        self.label_error_probability_ = issues.label_error_probability
        self.sample_weight_ = issues.sample_weight
        self.suggested_label_ = np.where(
            issues.is_label_issue, self.classes_[issues.suggested_label], y
        )

    def _fitted(self, estimator: Any, X: Any, y: NDArray[Any]) -> Any:
        """Return the classifier, fitted with weights or without the flagged samples."""
        if has_fit_parameter(estimator, "sample_weight"):
            return estimator.fit(X, y, sample_weight=self.sample_weight_.astype(np.float64))
        rows = np.flatnonzero(~self.is_label_issue_)
        if len(np.unique(y[rows])) < len(self.classes_):  # no class may be lost
            rows = np.arange(_num_samples(X))
        kept = X.iloc[rows] if hasattr(X, "iloc") else _rows_of(X, rows)
        return estimator.fit(kept, y[rows])


def _rows_of(samples: Any, rows: NDArray[np.int64]) -> Any:
    if isinstance(samples, list | tuple):
        return [samples[row] for row in rows.tolist()]
    return samples[rows]
