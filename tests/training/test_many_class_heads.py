import numpy as np
import pytest
import torch
from frozen_blobs import blobs, features_of, score_all
from hypothesis import given as given_that
from hypothesis import strategies as st

from labelfix.config import HeadConfig
from labelfix.errors import ConfigError
from labelfix.training.cross_fit_heads import cross_fit_heads
from labelfix.training.many_class_heads import _batches

CPU = torch.device("cpu")


def fit(values, given, config, notes=None, classes=300):
    def take(progress):
        if notes is not None and progress.note:
            notes.append((progress.done, float(progress.note.split()[-1])))

    return cross_fit_heads(
        features_of(values), given, score_all(len(given)), classes=classes, config=config, seed=0,
        device=CPU, on_progress=take,
    )  # fmt: skip


def likelihood(evidence, given):
    own = evidence.pred_probs[np.arange(len(given)), given]
    return float(np.log(np.maximum(own, 1e-12)).mean())


def test_of_many_classes_the_closed_form_is_as_good_as_training_from_zero():
    """By the likelihood of held-out given labels, which alone may choose."""
    values, given, true = blobs(0, count=1800, classes=300, width=24)
    few = fit(values, given, HeadConfig(least_steps=60))
    from_zero = fit(values, given, HeadConfig(least_steps=60, trained_classes=300))
    assert likelihood(few, given) > likelihood(from_zero, given)
    assert (few.pred_probs.argmax(axis=1) == true).mean() > 0.85
    np.testing.assert_allclose(few.pred_probs.sum(axis=1), 1, atol=1e-4)


def test_up_to_the_bound_nothing_changes():
    values, given, _ = blobs(1, count=100)
    usual, other = HeadConfig(epochs=3, least_steps=20), HeadConfig(
        epochs=3, least_steps=20, trained_classes=3, shrinkages=(0.5,), first_steps=7, least_gain=1
    )  # fmt: skip
    first, second = (fit(values, given, config, classes=3) for config in (usual, other))
    np.testing.assert_array_equal(first.pred_probs, second.pred_probs)
    np.testing.assert_array_equal(first.margin, second.margin)


def test_steps_are_doubled_as_long_as_held_out_labels_become_likelier():
    values, given, _ = blobs(2, count=500, classes=5)
    values = np.abs(values) ** 2  # so that no class is spread as another is
    notes = []
    config = HeadConfig(trained_classes=1, first_steps=5, least_steps=40)
    fit(values.astype(np.float16), given, config, notes, classes=5)
    starts = [place for place, (tried, _) in enumerate(notes) if tried == 0]
    assert len(starts) == 2  # of heads that learn the given labels, and of the final ones
    for search in (notes[: starts[1]], notes[starts[1] :]):
        tried, found = zip(*search, strict=True)
        assert tried[1:] == tuple(5 * 2**k for k in range(len(tried) - 1))
        gains = np.diff(found)
        assert (gains[:-1] > 0.009).all()  # notes are rounded
        assert gains[-1] < 0.011 or tried[-1] == 40


@given_that(st.integers(1, 700), st.integers(1, 200), st.integers(0, 25), st.integers(0, 9))
def test_batches_are_full_as_many_as_asked_for_and_see_all_rows_alike(count, size, steps, seed):
    rows = 3 * np.arange(count)
    batches = list(_batches(rows, size, steps, seed))
    assert [len(batch) for batch in batches] == [min(size, count)] * steps
    for batch in batches:
        assert (np.diff(batch) > 0).all()
        assert np.isin(batch, rows).all()
    first_epoch = batches[: max(1, count // size)]
    drawn = np.concatenate([*first_epoch, np.empty(0, np.int64)])
    assert len(np.unique(drawn)) == len(drawn)


@pytest.mark.parametrize(
    "changes",
    [{"shrinkages": ()}, {"shrinkages": (0.0,)}, {"shrinkages": (1.5,)}, {"first_steps": -1},
     {"trained_classes": 0}, {"least_gain": -0.1}],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_refused(changes):
    with pytest.raises(ConfigError):
        HeadConfig(**changes)
