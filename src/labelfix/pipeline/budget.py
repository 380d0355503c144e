"""How much memory an audit may take, and whether it will do.

A budget decides which arrays lie in files (`labelfix.utils.scratch`), and never a figure of a
report. What cannot lie in a file is forecast from the size of the data before the work begins.

Letters: N samples, D features, K classes, F folds.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from labelfix.arguments import named
from labelfix.config import AuditConfig
from labelfix.config.sizes import bytes_of, told_bytes
from labelfix.errors import ConfigError
from labelfix.report.schema import ROW_GROUP_SIZE, ROW_GROUP_VALUES
from labelfix.utils.memory import DEFAULT_SHARE, anonymous_bytes, available_memory
from labelfix.utils.scratch import MAPPED_SHARE
from labelfix.utils.threads import cores

if TYPE_CHECKING:
    from labelfix.training.network_memory import NetworkMemory

FLOAT, DOUBLE = 4, 8

LIBRARIES = 150 << 20
"""What libraries take that load while the audit goes on."""

OF_NEIGHBORS = 600
"""Bytes a sample while neighbors are searched, and then told of all copies: 300 at the search."""

SEARCHED_BLOCK = 90 << 20
"""Bytes of a core while neighbors are searched: the rows of a block, and what they are like."""

OF_SCORES = 700
"""Bytes a sample while heads are trained: its neighbors, issues, folds and pseudo-labels."""

OF_REPORT = 1100
"""Bytes a sample while the report is made and written, beside its probabilities."""

OF_PROBABILITIES = 60
"""Bytes a sample, beside its name and label, where probabilities are given."""

HYPOTHESES = 4
"""Probabilities that a label is wrong, one under each hypothesis, held of each sample."""

BLOCK_CELLS = 1 << 24
"""Logits, or likenesses, that are held at once."""

COMPONENT_ROWS = 20_000
"""Rows that the components of neighbors are learned from."""


@dataclass(frozen=True, slots=True)
class MemoryBudget:
    """How many bytes of anonymous memory an audit may take.

    Args:
        size: Bytes.
        available: What the machine had left when the audit began.
        is_asked: Whether somebody asked for it.
    """

    size: int
    available: int
    is_asked: bool

    @classmethod
    def of(cls, memory: str | None) -> "MemoryBudget":
        """Return the budget that was asked for, or else a share of what is available."""
        available = available_memory()
        size = int(available * DEFAULT_SHARE) if memory is None else bytes_of(memory, "memory")
        return cls(size, available, memory is not None)

    def record(self) -> Mapping[str, Any]:
        """Return what ``run.json`` says of it."""
        return {"bytes": self.size, "available": self.available, "asked": self.is_asked}

    def refuse_heads(self, samples: int, width: int, classes: int, config: AuditConfig) -> None:
        """Refuse to train heads where that is sure to take more.

        Args:
            samples: N.
            width: D.
            classes: K.
            config: How heads are trained.

        Raises:
            ConfigError: The forecast is above what was asked for, or above all that is available.
        """
        stages = (
            _of_neighbors(samples, width) + samples * OF_NEIGHBORS,
            _of_training(width, classes, config) + samples * OF_SCORES,
            _of_writing(samples, classes) + samples * OF_REPORT,
        )
        sizes = (2 * width, FLOAT * width, FLOAT * classes, FLOAT * classes, FLOAT * 256)
        self._refuse(samples, max(stages), sizes)

    def refuse_scoring(self, samples: int, classes: int) -> None:
        """Refuse to score given probabilities where that is sure to take more.

        Raises:
            ConfigError: As `refuse_heads` raises it.
        """
        working = _of_writing(samples, classes) + samples * OF_PROBABILITIES
        self._refuse(samples, working, (FLOAT * classes, FLOAT * HYPOTHESES))

    def networks_at_once(
        self, samples: int, classes: int, memory: "NetworkMemory | None", most: int
    ) -> int:
        """Return how many networks may train at once, no figure of which depends on that.

        Args:
            samples: N.
            classes: K.
            memory: What one takes; ``None`` where they lie on a GPU.
            most: How many would train at once.

        Raises:
            ConfigError: One alone is sure to take more than was asked for, or than is available.
        """
        others = _of_writing(samples, classes) + samples * max(OF_NEIGHBORS, OF_REPORT)
        self._refuse(samples, others, (FLOAT * classes,))
        if memory is None:
            return most
        held = anonymous_bytes() + samples * OF_SCORES
        fitting = [
            count
            for count in range(1, most + 1)
            if held + memory.of(count, samples, classes) <= self._limit
        ]
        if fitting:
            return fitting[-1]
        needed = told_bytes(held + memory.of(1, samples, classes))
        what = f"a network that is trained on batches of {memory.batch_size}"
        smaller = f"choose a smaller {named('train_batch_size')} or {named('tune', value='head')}"
        raise self._too_little(
            f"about {needed} of memory are needed for {what}", f"{self._more}, or {smaller}"
        )

    @property
    def _limit(self) -> int:
        return self.size if self.is_asked else self.available

    @property
    def _more(self) -> str:
        return f"allow more with {named('memory')}" if self.is_asked else "end other programs"

    def _too_little(self, needed: str, hint: str) -> ConfigError:
        what = named("memory") if self.is_asked else "the memory that is available"
        return ConfigError(f"{needed}, and {what} is {told_bytes(self._limit)}", hint=hint)

    def _refuse(self, samples: int, working: int, arrays: tuple[int, ...]) -> None:
        """Refuse what takes so many bytes, and so many of each sample in each of some arrays."""
        most = int(self.size * MAPPED_SHARE)
        held = sum(size for size in (samples * one for one in arrays) if size <= most)
        needed = anonymous_bytes() + LIBRARIES + working + held
        if needed > self._limit:
            raise self._too_little(
                f"about {told_bytes(needed)} of memory are needed for {samples:,} samples, though "
                "large arrays lie in files",
                self._more if self.is_asked else f"{self._more}, or audit fewer samples",
            )


def _of_training(width: int, classes: int, config: AuditConfig) -> int:
    """Return the bytes that heads take while they are trained."""
    folds = config.heads.folds
    heads = folds * (folds - 1) // 2 + folds
    if classes <= config.heads.trained_classes:
        weights = 4 * heads * classes * width * FLOAT  # with gradients and two moments of Adam
        blocks = 6 * 4096 * heads * classes * FLOAT
        return weights + blocks + 2 * BLOCK_CELLS * FLOAT
    moments = (folds + 2) * width * (width + classes) * DOUBLE
    factors = len(config.heads.shrinkages) * classes * width * FLOAT + 2 * width * width * DOUBLE
    weights = (heads + 4) * classes * width * FLOAT
    rows = BLOCK_CELLS // classes
    return moments + factors + weights + 5 * BLOCK_CELLS * FLOAT + 2 * rows * width * FLOAT


def _of_neighbors(samples: int, width: int) -> int:
    """Return the bytes that neighbors take beside what they take of each sample."""
    components = 5 * min(samples, COMPONENT_ROWS) * width * FLOAT
    return max(components, cores() * SEARCHED_BLOCK)


def _of_writing(samples: int, classes: int) -> int:
    """Return the bytes that the row groups of the report take while they are written."""
    cells = min(samples, ROW_GROUP_SIZE) * classes
    return 4 * FLOAT * min(cells, ROW_GROUP_VALUES)
