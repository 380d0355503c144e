"""What a page wants of pictures, and who draws them: a page knows of no image format."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

NO_IMAGES = "Only probabilities were given to this audit, so there are no pictures to show."


@dataclass(frozen=True, slots=True)
class Wish:
    """A picture that a page wants: the row of a sample, and how many pixels a side at most."""

    row: int
    side: int


@dataclass(frozen=True, slots=True)
class Pictures:
    """Who draws for a page.

    Args:
        draw: Takes wishes, the most important first, and returns ``data:`` addresses for those that
            can be had and fit.
        why_not: A sentence that says why none can be had; ``None`` if they can.
    """

    draw: Callable[[Sequence[Wish]], Mapping[Wish, str]]
    why_not: str | None


def no_pictures(why_not: str) -> Pictures:
    """Return pictures of which none can be had, and say why."""
    return Pictures(lambda wishes: {}, why_not)
