"""Which label to train on, and how much a sample counts, from what other models believe of it.

After Li & Zhang (NeurIPS 2021), section 4: labels that the model is sure are wrong are corrected,
samples that it doubts count less. Here the beliefs come from models that never trained on the
sample, so a wrong label cannot vouch for itself. Pure functions; given labels are never written to.

Letters: B samples, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfLabeling:
    """The two rules.

    Args:
        threshold: p_t: a label is corrected where another class is believed more than this.
        temperature: tau: a sample weighs its label's believed probability to the power 1/tau.
    """

    threshold: float = 0.9
    temperature: float = 2.0


def self_label(belief: Tensor, given_label: Tensor, rules: SelfLabeling) -> tuple[Tensor, Tensor]:
    """Return the ``(...)`` label to train on and its weight.

    The weight is ``p_label ** (1 / tau)``, the softmax of ``-loss / tau`` before it is normalised:
    normalising over all samples instead of over a batch keeps a batch of wrong labels from taking
    a full step.

    Args:
        belief: ``(..., K)`` probabilities, rows sum to 1.
        given_label: ``(...)`` int64.
        rules: The threshold (strict) and the temperature.
    """
    top, best = belief.max(dim=-1)
    label = torch.where(top > rules.threshold, best, given_label)
    believed = belief.gather(-1, label.unsqueeze(-1)).squeeze(-1)
    return label, believed.pow(1 / rules.temperature)
