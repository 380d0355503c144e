"""Wrong labels made on purpose, for benchmarks: each kind of mistake that papers study.

Every function takes true labels ``(N,)`` in ``[0, K)``, changes nothing and returns new int64
labels; the same seed gives the same ones. No other package of labelfix may use it: an audit must
not know the truth.

Letters: N samples, K classes, r the rate.
"""

import numpy as np
from numpy.typing import NDArray

from labelfix.errors import ConfigError

Labels = NDArray[np.int64]


def independent_noise(labels: Labels, rate: float, classes: int, seed: int) -> Labels:
    """Draw labels anew, as the code of Li & Zhang (NeurIPS 2021) does.

    ``int(r * N)`` samples, none twice, get a label uniform over *all* classes, the true one
    included: the expected share of wrong labels is ``r * (K - 1) / K``, not r.
    """
    noisy, rng = _start(labels, rate, classes, seed)
    chosen = rng.choice(len(noisy), int(rate * len(noisy)), replace=False)
    noisy[chosen] = rng.integers(0, classes, len(chosen))
    return noisy


def symmetric_noise(labels: Labels, rate: float, classes: int, seed: int) -> Labels:
    """Give ``round(r * N)`` samples one of the other classes, each as likely: r are wrong."""
    noisy, rng = _start(labels, rate, classes, seed)
    chosen = rng.choice(len(noisy), round(rate * len(noisy)), replace=False)
    noisy[chosen] = (noisy[chosen] + rng.integers(1, classes, len(chosen))) % classes
    return noisy


def class_dependent_noise(
    labels: Labels, rate: float, classes: int, seed: int, *, flips: Labels | None = None
) -> Labels:
    """Give ``round(r * M)`` of the M samples whose class has a look-alike the label of that class.

    Args:
        labels: True ones.
        rate: r, of the samples whose class is ever mistaken.
        classes: K.
        seed: Of the choice, and of the look-alikes if they are not given.
        flips: ``(K,)``: what each class is taken for; itself where it is never mistaken. ``None``
            takes `random_flips`.
    """
    noisy, rng = _start(labels, rate, classes, seed)
    flips = random_flips(classes, seed) if flips is None else np.asarray(flips)
    if flips.shape != (classes,) or flips.min() < 0 or flips.max() >= classes:
        raise ConfigError(f"flips must name one of the {classes} classes for each class")
    candidates = np.flatnonzero(flips[noisy] != noisy)
    chosen = rng.choice(candidates, round(rate * len(candidates)), replace=False)
    noisy[chosen] = flips[noisy[chosen]]
    return noisy


def random_flips(classes: int, seed: int) -> Labels:
    """Return ``(K,)`` look-alikes: one random ring through all classes, so none is its own."""
    ring = np.random.default_rng(seed).permutation(classes)
    flips = np.empty(classes, dtype=np.int64)
    flips[ring] = np.roll(ring, -1)
    return flips


def instance_dependent_noise(
    labels: Labels, probs: NDArray[np.floating], rate: float, seed: int
) -> Labels:
    """Make the mistakes that a model would make: hard images, taken for what they look like.

    ``round(r * N)`` samples are drawn without replacement, each with a chance in proportion to the
    probability that the model leaves to other classes; the wrong label is one of those, drawn by
    their probabilities. So r of the labels are wrong.

    Args:
        labels: True ones.
        probs: ``(N, K)`` probabilities, best out-of-sample, or from a classifier on features.
        rate: r.
        seed: Of both draws.
    """
    noisy, rng = _start(labels, rate, probs.shape[1], seed)
    if len(probs) != len(noisy) or not np.isfinite(probs).all():
        raise ConfigError(f"{len(noisy)} labels need as many rows of finite probabilities")
    rows = np.arange(len(noisy))
    other = np.array(probs, dtype=np.float64) + 1e-12  # a sure model still says what to mistake for
    other[rows, noisy] = 0.0
    doubt = other.sum(axis=1)
    # The largest log(weight) + Gumbel are a draw without replacement in proportion to the weights.
    keys = np.log(doubt) + rng.gumbel(size=len(noisy))
    chosen = np.argsort(-keys, kind="stable")[: round(rate * len(noisy))]
    upto = np.cumsum(other[chosen], axis=1)
    drawn = rng.random(len(chosen)) * upto[:, -1]
    noisy[chosen] = (upto <= drawn[:, None]).sum(axis=1)
    return noisy


def correlated_noise(pred_labels: Labels) -> Labels:
    """Return a model's labels in place of all given ones: the correlated noise of Li & Zhang.

    Theirs come from a ResNet-18 that was fine-tuned for 8 epochs on the true labels of the same
    images; where it errs the labels are wrong (25.18 % on MIT-Indoor). The rate cannot be chosen,
    only found, by training longer or shorter.

    Args:
        pred_labels: ``(N,)`` the labeling model's argmax of each training image.
    """
    return np.array(pred_labels, dtype=np.int64)


def _start(
    labels: Labels, rate: float, classes: int, seed: int
) -> tuple[Labels, np.random.Generator]:
    """Return a copy to write to and the source of chance."""
    if not 0 <= rate <= 1:
        raise ConfigError(f"the noise rate {rate} is not between 0 and 1")
    if classes < 2:
        raise ConfigError(f"{classes} classes leave nothing to be mistaken for")
    noisy = np.array(labels, dtype=np.int64)
    if noisy.size and not 0 <= noisy.min() <= noisy.max() < classes:
        raise ConfigError(f"a label is not one of the {classes} classes")
    return noisy, np.random.default_rng(seed)
