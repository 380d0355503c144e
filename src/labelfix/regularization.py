"""Keep weights within a distance of where they started.

Letters: M models that train side by side, P parameters of one.
"""

import torch
from torch import Tensor


def project_onto_balls(weight: Tensor, radius: Tensor, centre: Tensor | None = None) -> None:
    """Move each model's weights, in place, to the nearest point of its ball.

    ``W <- W0 + (W - W0) * min(1, D / ||W - W0||_F)``: the Euclidean projection onto the
    Frobenius ball of Li & Zhang (NeurIPS 2021), section 3, after Gouk et al. (ICLR 2021).

    Args:
        weight: ``(M, ...)``, one model a row; changed in place.
        radius: ``(M,)`` D >= 0; infinity leaves a model alone, 0 puts it back to the centre.
        centre: ``(M, ...)`` W0; ``None`` is zero, as for a head that was not pretrained.
    """
    with torch.no_grad():
        flat = weight.view(len(weight), -1)
        origin = torch.zeros_like(flat) if centre is None else centre.reshape(flat.shape)
        away = flat - origin
        distance = away.norm(dim=1)
        # 0/0 would be NaN at the centre itself, which is inside every ball
        shrink = torch.where(distance > radius, radius / distance, 1.0)
        if centre is None:
            flat.mul_(shrink[:, None])
        else:
            flat.copy_(torch.where(shrink[:, None] < 1, origin + away * shrink[:, None], flat))
