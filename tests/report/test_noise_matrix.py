import numpy as np
import pyarrow.parquet as pq
from command import labelfix as command
from given_probs import noisy, write

from labelfix.benchmark.noise import class_dependent_noise
from labelfix.report.build import noise_table
from labelfix.scoring.scores import score_labels
from labelfix.types import Evidence


def scored(count=20_000, rate=0.2):
    """Labels of which every fifth is taken for the next class, and a model that is often sure."""
    rng = np.random.default_rng(0)
    probs = rng.dirichlet(np.full(4, 0.05), count)
    true = (probs.cumsum(axis=1) > rng.random((count, 1))).argmax(axis=1)
    flips = np.array([1, 2, 3, 0])
    given_label = class_dependent_noise(true, rate, 4, 0, flips=flips)
    mixed = probs @ ((1 - rate) * np.eye(4) + rate * np.eye(4)[flips])
    evidence = Evidence(
        pred_probs=mixed.astype(np.float32),
        fold=np.zeros(count, np.int16),
        margin=np.zeros(count, np.float32),
        self_label=given_label,
    )
    return score_labels(evidence, given_label), given_label, true


def test_the_matrix_is_how_labels_were_mistaken():
    scores, given_label, true = scored()
    counts = np.zeros((4, 4))
    np.add.at(counts, (true, given_label), 1)
    share = counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scores.noise_matrix, share, atol=0.05)
    assert (scores.noise.low <= scores.noise.probability).all()
    assert (scores.noise.probability <= scores.noise.high).all()


def test_the_table_has_a_row_for_each_pair_of_classes():
    scores, _, _ = scored(count=500)
    rows = noise_table(scores, ("a", "b", "c", "d")).to_pylist()
    assert len(rows) == 16
    assert (rows[1]["true_label"], rows[1]["given_label"]) == ("a", "b")
    assert rows[1]["probability"] == scores.noise_matrix[0, 1]
    total = sum(row["probability"] for row in rows if row["true_label"] == "c")
    np.testing.assert_allclose(total, 1)


def test_the_command_writes_it_beside_the_report(tmp_path):
    probs = noisy()
    run = tmp_path / "run"
    command("audit", "--pred-probs", write(tmp_path / "p.csv", probs), "--out", run)
    table = pq.read_table(run / "noise_matrix.parquet")
    assert table.column_names == ["true_label", "given_label", "probability", "low", "high"]
    assert table.num_rows == len(probs.classes) ** 2
