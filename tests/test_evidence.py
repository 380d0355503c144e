import numpy as np
import torch

from labelfix.evidence import MarginRecorder


def test_margins_equal_a_naive_loop_over_batches_and_heads():
    rng = np.random.default_rng(0)
    count, heads, classes = 7, 3, 4
    given_label = torch.from_numpy(rng.integers(0, classes, count))
    recorder = MarginRecorder(count)
    seen: dict[int, list[float]] = {}
    for _ in range(5):
        rows = torch.from_numpy(rng.choice(count, size=3, replace=False))
        logits = torch.from_numpy(rng.normal(size=(3, heads, classes)))
        counts = torch.from_numpy(rng.random((3, heads)) < 0.6)
        recorder.update(rows, logits, given_label[rows], counts)
        for i, row in enumerate(rows.tolist()):
            for head in range(heads):
                if counts[i, head]:
                    values = logits[i, head].tolist()
                    own = values.pop(int(given_label[row]))
                    seen.setdefault(row, []).append(own - max(values))
    expected = [np.mean(seen[row]) if row in seen else np.nan for row in range(count)]
    np.testing.assert_allclose(recorder.margin(), expected, rtol=1e-5)


def test_a_batch_of_one_and_a_sample_never_seen():
    recorder = MarginRecorder(2)
    recorder.update(
        torch.tensor([1]), torch.tensor([[[3.0, 1.0]]]), torch.tensor([0]), torch.tensor([[True]])
    )
    np.testing.assert_array_equal(recorder.margin(), [np.nan, 2.0])
