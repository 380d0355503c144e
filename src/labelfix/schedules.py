"""How the learning rate moves over a training run."""

import math
from collections.abc import Callable


def warm_up_and_cosine(steps: int, warm_up_share: float = 0.1) -> Callable[[int], float]:
    """Return the factor of the peak rate at each step: a linear rise, then half a cosine to 0.

    Args:
        steps: Of the whole run.
        warm_up_share: The share of them that the rise takes.
    """
    warm_up = max(1, round(steps * warm_up_share))

    def factor(step: int) -> float:
        rise = min(1.0, (step + 1) / warm_up)
        return rise * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))

    return factor
