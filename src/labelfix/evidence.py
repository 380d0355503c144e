"""What training sees of each sample while it goes on.

Letters: N samples, B samples of a batch, M models, K classes.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class MarginRecorder:
    """Averages each sample's margin over training: the area under the margin, or AUM.

    The margin is the given label's logit minus the largest other logit (Pleiss et al., NeurIPS
    2020, equation 1). A sample whose given label is wrong is pulled the other way by its own
    class, and keeps a low margin.
    """

    def __init__(self, count: int) -> None:
        self._sum = torch.zeros(count, dtype=torch.float64)
        self._updates = torch.zeros(count, dtype=torch.int64)

    def update(self, rows: Tensor, logits: Tensor, given_label: Tensor, counts: Tensor) -> None:
        """Add one batch.

        Args:
            rows: ``(B,)`` sample numbers, none twice.
            logits: ``(B, M, K)``.
            given_label: ``(B,)`` int64.
            counts: ``(B, M)`` bool: which models train on which sample.
        """
        with torch.no_grad():
            index = given_label[:, None, None].expand(-1, logits.shape[1], 1)
            given = logits.gather(2, index).squeeze(2)
            other = logits.scatter(2, index, -torch.inf).amax(dim=2)
            margin = ((given - other) * counts).sum(dim=1)
            self._sum[rows] += margin.double().cpu()
            self._updates[rows] += counts.sum(dim=1).cpu()

    def margin(self) -> NDArray[np.float32]:
        """Return ``(N,)`` mean margins, logit units, high is clean; NaN where never measured."""
        mean = torch.where(self._updates > 0, self._sum / self._updates, torch.nan)
        return mean.float().numpy()
