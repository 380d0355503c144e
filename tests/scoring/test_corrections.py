import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from labelfix.config import FlagConfig
from labelfix.scoring.flags import correct
from labelfix.types import MISSING, LabelScores, NoiseCells


def scores_of(wrong):
    wrong = np.asarray(wrong, dtype=np.float32)
    scored = ~np.isnan(wrong)
    return LabelScores(
        label_error_probability=wrong,
        under_hypotheses=wrong[None],
        predicted_label=np.where(scored, 1, MISSING),
        alternative_label=np.where(scored, 2, MISSING),
        alternative_probability=wrong,
        noise=NoiseCells.of_matrix(np.eye(3), np.stack([np.eye(3)] * 2)),
        noise_rate=0.1,
        noise_rate_interval=(0.05, 0.2),
    )


def test_only_flagged_labels_get_a_suggestion_and_only_scored_ones_a_flag():
    corrections = correct(scores_of([0.1, 0.2, 0.9, np.nan]), np.ones(4, dtype=bool), FlagConfig())
    assert corrections.is_label_issue.tolist() == [False, False, True, False]
    assert corrections.suggested_label.tolist() == [MISSING, MISSING, 2, MISSING]


def test_unusable_rows_weigh_nothing_and_unscored_ones_the_mean():
    usable = np.array([True, True, True, False])
    weight = correct(scores_of([0.0, 0.5, np.nan, np.nan]), usable, FlagConfig()).sample_weight
    assert weight[3] == 0
    np.testing.assert_allclose(weight[2], (weight[0] + weight[1]) / 2)
    np.testing.assert_allclose(weight[1], weight[0] / 2)


@given(st.lists(st.one_of(st.just(np.nan), st.floats(0, 1, width=32)), min_size=1, max_size=30))
def test_weights_are_never_negative_and_have_mean_1(wrong):
    weight = correct(scores_of(wrong), np.ones(len(wrong), dtype=bool), FlagConfig()).sample_weight
    assert bool((weight >= 0).all())
    np.testing.assert_allclose(weight.mean(), 1, rtol=1e-5)
