"""The methods of the benchmark, on features and probabilities made by hand."""

import sys
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path

import cleanlab.filter
import cleanlab.rank
import numpy as np
import pytest
from cleanlab.classification import CleanLearning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from written_texts import sentences, write_table

from labelfix.benchmark.methods import baselines, ours
from labelfix.benchmark.methods import cleanlab as cleanlab_methods
from labelfix.benchmark.methods import neighbors as neighbor_methods
from labelfix.benchmark.methods.cleanlab import STRENGTHS, cross_validated
from labelfix.benchmark.methods.registry import METHODS, find_method, misfit
from labelfix.benchmark.problem import Downstream, MethodResult, Problem, Variant, variants_of
from labelfix.benchmark.shared import compute, downstream_accuracies
from labelfix.config import AuditConfig, BackboneConfig, DatasetConfig
from labelfix.data.dataset import open_dataset
from labelfix.errors import BenchmarkError
from labelfix.modalities.base import get_modality
from labelfix.scoring.scores import score_labels
from labelfix.types import MISSING, Evidence
from labelfix.utils.progress import no_progress

CLASSES = 4


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Problem, np.ndarray]:
    """A problem of four clouds of features, a fifth of whose labels are wrong, and the truth."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, 240)
    centers = rng.normal(size=(CLASSES, 12)) * 2
    folder = tmp_path_factory.mktemp("features")
    np.save(folder / "values.npy", (centers[truth] + rng.normal(size=(240, 12))).astype(np.float16))
    given = np.where(rng.random(240) < 0.25, rng.integers(0, CLASSES, 240), truth)
    problem = Problem(
        given_label=given,
        classes=CLASSES,
        seed=3,
        features=folder,
        backbone=BackboneConfig(device="cpu"),
    )
    return problem, truth


def soft(problem: Problem, truth: np.ndarray, models: int = 1) -> Problem:
    """Return a problem of probabilities that lean to the true label."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(models, len(truth), CLASSES))
    logits[:, np.arange(len(truth)), truth] += 3
    probs = np.exp(logits)
    return Problem(
        given_label=problem.given_label,
        classes=CLASSES,
        seed=0,
        pred_probs=(probs / probs.sum(axis=2, keepdims=True)).astype(np.float32),
    )


def test_every_method_is_where_it_is_said_to_be() -> None:
    for method in METHODS.values():
        if method.package != "datasets":
            assert callable(
                getattr(
                    import_module(f"labelfix.benchmark.methods.{method.module}"), method.function
                )
            )
    with pytest.raises(BenchmarkError, match="no method 'cleanlab'") as caught:
        find_method("cleanlab")
    assert "cleanlab-" in str(caught.value.hint)


def test_a_method_that_cannot_run_on_a_task_says_why() -> None:
    images, texts = get_modality("image"), get_modality("text")
    usual, minilm = BackboneConfig(), BackboneConfig(name="minilm")
    for kind in (images, texts, None):
        assert misfit(METHODS["random"], kind, usual) == ""
    assert misfit(METHODS["labelfix-probs"], None, usual) == ""
    assert "the task gives none" in misfit(METHODS["labelfix-probs"], images, usual)
    for name in ("knn-vote", "labelfix-head", "labelfix-full"):
        assert misfit(METHODS[name], images, usual) == ""
        assert "probabilities alone" in misfit(METHODS[name], None, usual)
    for name in ("labelfix-head", "cleanlab-logistic", "aum"):
        assert misfit(METHODS[name], texts, usual) == ""
    for name in ("labelfix-top", "labelfix-full", "cleanlab-network"):
        assert "no network" in misfit(METHODS[name], texts, usual)
        assert misfit(METHODS[name], texts, minilm) == ""


def test_methods_see_the_features_of_texts_that_an_audit_sees(tmp_path: Path) -> None:
    texts, true = sentences(80)
    truth = np.array([sorted(set(true)).index(label) for label in true])
    given = np.where(np.arange(80) % 5 == 0, 1 - truth, truth)
    table = write_table(tmp_path / "t.parquet", {"text": texts, "label": given.tolist()})
    cache = tmp_path / "cache"
    bare = Problem(given_label=given, classes=2, seed=0, data=table, cache=cache)
    found = compute(bare, None)
    assert compute(bare, None) == found, "what is there is not computed again"
    problem = replace(bare, features=Path(found["features"]))
    dataset = open_dataset(table, DatasetConfig())
    encoder = get_modality("text").encoder(AuditConfig(), dataset.store)
    seen = encoder.encode(dataset.store, dataset.fingerprint, cache, no_progress)
    assert np.array_equal(problem.feature_values(), seen.values)
    for answers in (ours.head(problem), cleanlab_methods.logistic(problem)):
        for answer in answers.values():
            assert answer.lacks(80) == ""
            assert roc_auc_score(given != truth, answer.score) > 0.8


def test_a_problem_has_no_place_for_the_truth(blobs, tmp_path: Path) -> None:
    problem, truth = blobs
    names = {field.name for field in fields(Problem)}
    assert not {name for name in names if "tru" in name or "clean" in name or "noise" in name}
    problem.write(tmp_path)
    with np.load(tmp_path / "problem.npz") as arrays:
        assert arrays.files == ["given_label"]
        assert not np.array_equal(arrays["given_label"], truth)
    back = Problem.read(tmp_path)
    assert np.array_equal(back.given_label, problem.given_label)
    for name in names - {"given_label"}:
        assert getattr(back, name) == getattr(problem, name)


def test_cleanlab_says_what_its_own_functions_say(blobs) -> None:
    problem, truth = blobs
    given_label = problem.given_label
    of_one = soft(problem, truth)
    pred_probs = of_one.pred_probs[0]
    answers = cleanlab_methods.published(of_one)
    assert set(answers) == set(cleanlab_methods.SCORES)
    for name in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        quality = cleanlab.rank.get_label_quality_scores(given_label, pred_probs, method=name)
        assert np.array_equal(answers[name].score, 1 - quality.astype(np.float64))
    adjusted = cleanlab.rank.get_label_quality_scores(
        given_label, pred_probs, method="normalized_margin", adjust_pred_probs=True
    )
    assert np.array_equal(
        answers["normalized_margin_adjusted"].score, 1 - adjusted.astype(np.float64)
    )
    default = answers["self_confidence"]
    for rule, flags in default.flags.items():
        told = cleanlab.filter.find_label_issues(given_label, pred_probs, filter_by=rule, n_jobs=1)
        assert np.array_equal(flags, told), rule
    assert np.array_equal(
        default.default_flags(), cleanlab.filter.find_label_issues(given_label, pred_probs)
    ), "the first rule is cleanlab's default"
    flagged = default.default_flags() & (pred_probs.argmax(axis=1) != given_label)
    expected = np.where(flagged, pred_probs.argmax(axis=1), MISSING)
    assert np.array_equal(default.suggested_label, expected)


def test_cleanlab_joins_models_as_its_ensemble_does(blobs) -> None:
    problem, truth = blobs
    several = soft(problem, truth, models=3)
    answers = cleanlab_methods.published(several)
    quality = cleanlab.rank.get_label_quality_ensemble_scores(
        problem.given_label, list(several.pred_probs), method="normalized_margin", verbose=False
    )
    assert np.array_equal(answers["normalized_margin"].score, 1 - quality.astype(np.float64))


def test_the_weights_of_cleanlab_are_those_of_clean_learning(blobs) -> None:
    problem, _ = blobs
    values = problem.feature_values().astype(np.float32)
    model = LogisticRegression()
    learning = CleanLearning(
        model, seed=0, cv_n_folds=5, find_label_issues_kwargs={"min_examples_per_class": 1}
    )
    learning.fit(values, problem.given_label)
    issues = learning.get_label_issues()
    weights = cleanlab_methods.class_weights(
        learning.confident_joint, problem.given_label, issues["is_label_issue"].to_numpy()
    )
    assert weights == pytest.approx(issues["sample_weight"].to_numpy())


def test_logistic_regression_is_cross_validated_with_the_likeliest_strength(blobs) -> None:
    problem, _ = blobs
    values = problem.feature_values().astype(np.float32)
    given_label = problem.given_label
    splits = list(StratifiedKFold(5, shuffle=True, random_state=3).split(values, given_label))

    def fitted(strength: float, rows: np.ndarray):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))
        return model.fit(values[rows], given_label[rows])

    train, test = splits[0]
    losses = []
    for strength in STRENGTHS:
        probs = fitted(strength, train).predict_proba(values[test])
        losses.append(-np.log(probs[np.arange(len(test)), given_label[test]]).mean())
    best = STRENGTHS[int(np.argmin(losses))]
    pred_probs, settings = cross_validated(values, given_label, CLASSES, seed=3)
    assert settings == {"C": best}
    for train, test in splits:
        assert pred_probs[test] == pytest.approx(fitted(best, train).predict_proba(values[test]))
    answers = cleanlab_methods.logistic(problem)
    own = pred_probs[np.arange(len(given_label)), given_label]
    assert answers["self_confidence"].score == pytest.approx(1 - own)


def test_a_class_that_no_label_names_gets_probability_zero(blobs) -> None:
    problem, _ = blobs
    values = problem.feature_values()
    pred_probs, _ = cross_validated(values, problem.given_label, CLASSES + 1, seed=0)
    assert pred_probs.shape == (240, CLASSES + 1)
    assert (pred_probs[:, CLASSES] == 0).all()


def test_neighbors_vote_as_in_a_naive_loop(blobs) -> None:
    problem, _ = blobs
    given_label = problem.given_label
    values = problem.feature_values().astype(np.float64)
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    likeness = values @ values.T
    np.fill_diagonal(likeness, -np.inf)
    for neighbors in (10, 50):
        expected = np.zeros((240, CLASSES))
        for row in range(240):
            for near in np.argsort(-likeness[row])[:neighbors]:
                expected[row, given_label[near]] += 1 / neighbors
        votes = neighbor_methods.neighbor_votes(problem, neighbors)
        assert np.abs(votes - expected).max() < 1e-9
        if neighbors == 50:
            answer = neighbor_methods.knn_vote(problem)[""]
            assert answer.score == pytest.approx(1 - expected[np.arange(240), given_label])
            assert np.array_equal(answer.flags["vote"], expected.argmax(axis=1) != given_label)
    answer = neighbor_methods.simifeat_vote(problem)[""]
    counts = [
        [answer.flags[rule][given_label == code].sum() for code in range(CLASSES)]
        for rule in ("vote", "rank")
    ]
    assert counts[0] == counts[1]
    for code in range(CLASSES):
        of_class = given_label == code
        ranked = answer.flags["rank"][of_class]
        if ranked.any() and not ranked.all():
            assert answer.score[of_class][ranked].min() >= answer.score[of_class][~ranked].max()


@pytest.mark.parametrize(
    "method",
    [
        baselines.aum,
        baselines.small_loss,
        neighbor_methods.knn_vote,
        neighbor_methods.simifeat_vote,
        cleanlab_methods.logistic,
    ],
)
def test_wrong_labels_are_found_and_the_same_seed_finds_the_same(blobs, method) -> None:
    problem, truth = blobs
    is_wrong = problem.given_label != truth
    answers = method(problem)
    for name, answer in answers.items():
        assert answer.lacks(240) == "", name
        assert roc_auc_score(is_wrong, answer.score) > 0.85, name
        assert answer.default_flags()[is_wrong].mean() > 2 * answer.default_flags().mean(), name
    again = method(problem)
    assert all(np.array_equal(again[name].score, answers[name].score) for name in answers)


def test_chance_is_chance(blobs) -> None:
    problem, truth = blobs
    answer = neighbor_methods.chance(problem)[""]
    assert 0.02 < answer.default_flags().mean() < 0.2
    assert abs(roc_auc_score(problem.given_label != truth, answer.score) - 0.5) < 0.15


def test_labelfix_on_given_probabilities_says_what_its_scores_say(blobs) -> None:
    problem, truth = blobs
    several = soft(problem, truth, models=2)
    mean = several.pred_probs.mean(axis=0)
    nothing = np.zeros(240)
    evidence = Evidence(mean, nothing.astype(np.int16), nothing, problem.given_label)
    expected = score_labels(evidence, problem.given_label)
    answer = ours.published(several)[""]
    assert answer.score == pytest.approx(expected.label_error_probability)
    assert answer.noise_rate == expected.noise_rate


def test_datalab_says_what_it_says_when_called_by_hand(blobs) -> None:
    pytest.importorskip("datasets")
    from cleanlab import Datalab

    from labelfix.benchmark.methods.cleanlab import datalab

    problem, _ = blobs
    lab = Datalab({"label": problem.given_label}, label_name="label", verbosity=0)
    lab.find_issues(features=problem.feature_values().astype(np.float32), issue_types={"label": {}})
    issues = lab.get_issues("label")
    answer = datalab(problem)[""]
    assert np.array_equal(answer.default_flags(), issues["is_label_issue"])
    assert answer.score == pytest.approx(1 - issues["label_score"].to_numpy())


def test_a_head_learns_more_from_cleaner_labels(blobs, tmp_path: Path) -> None:
    problem, truth = blobs
    flags = problem.given_label != truth
    told = MethodResult(
        score=flags.astype(float),
        flags={"all": flags},
        suggested_label=np.where(flags, truth, MISSING),
        noise_rate=0.2,
        sample_weight=np.where(flags, 0.1, 1.0),
        clean_label=np.where(np.arange(240) < 5, MISSING, truth),
        clean_weight=np.ones(240),
        soft_label=np.eye(CLASSES, dtype=np.float32)[truth],
    )
    variants = variants_of(told, problem.given_label)
    assert list(variants) == ["pruned", "weighted", "cleaned", "soft"]
    given_label = problem.given_label
    # the worst labels there are, to tell clean ones from: every class is taken for the next
    variants["shifted"] = Variant((given_label + 1) % CLASSES, np.ones(240))
    Downstream(variants, problem.features, truth).write(tmp_path)
    accuracy = downstream_accuracies(problem, Downstream.read(tmp_path))
    assert list(accuracy) == list(variants)
    assert min(accuracy[name] for name in ("pruned", "weighted", "cleaned", "soft")) > 0.9
    assert accuracy["shifted"] < 0.2


def test_methods_on_features_need_no_torch() -> None:
    """Peak memory is that of a process: torch alone would be most of it."""
    import subprocess

    program = (
        "import sys, labelfix.benchmark.worker, labelfix.benchmark.methods.cleanlab, "
        "labelfix.benchmark.methods.neighbors, labelfix.benchmark.methods.ours; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
