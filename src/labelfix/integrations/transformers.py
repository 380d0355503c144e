"""Evidence of a Hugging Face ``Trainer``.

::

    watched = watch(trainer)
    trainer.train()
    issues = watched.label_issues()

Letters: N samples, B samples of a batch, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import TrainerCallback

from labelfix.errors import ConfigError
from labelfix.integrations.evidence import TrainingWatch
from labelfix.types import Label

if TYPE_CHECKING:
    from transformers import Trainer

__all__ = ["watch"]

ROW = "labelfix_row"
"""The column that numbers the samples on their way to the model, which never sees it."""

_LABELS = ("labels", "label", "label_ids")


class _Numbered(Dataset[Any]):
    """A data set whose items say which row they are."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, row: int) -> dict[str, Any]:
        return {**self._items[row], ROW: row}


class _Hooks:
    """Takes the numbers of samples out of each batch, and notes its logits."""

    def __init__(self, watched: TrainingWatch) -> None:
        self._watched = watched
        self._rows: Tensor | None = None

    def before(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Take the numbers out of what the model is given."""
        kwargs = dict(kwargs)
        self._rows = kwargs.pop(ROW, None)
        return args, kwargs

    def after(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        """Note the logits of a step of training."""
        rows, self._rows = self._rows, None
        if rows is None or not module.training:
            return
        logits = output["logits"] if isinstance(output, Mapping) else output.logits
        self._watched.observe(rows, logits)


class _AtTheEnd(TrainerCallback):  # type: ignore[misc]
    """Sums what all processes have seen, when training ends."""

    def __init__(self, watched: TrainingWatch) -> None:
        self._watched = watched

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Sum it."""
        self._watched.gather()


def watch(trainer: "Trainer", *, class_names: Sequence[Label] | None = None) -> TrainingWatch:
    """Record what a trainer sees of each sample, from now on; call it before ``train()``.

    Of several processes, each records the samples that it sees, and the sum of all is there in each
    when training ends.

    Args:
        trainer: Its model takes named inputs and returns ``logits`` ``(B, K)``; its training data
            have a length and a column ``labels`` or ``label``.
        class_names: K names; ``None`` takes those of a ``ClassLabel``, if there is one.

    Raises:
        ConfigError: There are no training data, they have no labels, or one process trains on
            several GPUs.
    """
    if trainer.args.n_gpu > 1:  # copies of the model, in threads: nobody knows whose rows are whose
        raise ConfigError(
            f"one process trains on {trainer.args.n_gpu} GPUs",
            hint="start a process for each GPU with torchrun, or make one visible",
        )
    data: Any = trainer.train_dataset
    model: Any = trainer.model
    if data is None or not hasattr(data, "__len__") or not len(data):
        raise ConfigError(
            "the trainer has no training data with a length", hint="give it a train_dataset"
        )
    is_table = hasattr(data, "column_names") and hasattr(data, "add_column")
    names = data.column_names if is_table else list(data[0])
    name = next((one for one in _LABELS if one in names), None)
    if name is None:
        raise ConfigError(
            f"the training data have no labels; their columns are: {', '.join(map(str, names))}",
            hint="call the column of labels labels or label",
        )
    if is_table:
        labels = data.with_format(None)[:][name]
        class_names = class_names or getattr(data.features[name], "names", None)
        trainer.train_dataset = data.add_column(ROW, list(range(len(data))))
    else:
        labels = [int(data[row][name]) for row in range(len(data))]
        trainer.train_dataset = _Numbered(data)
    signature: Any = trainer
    signature._set_signature_columns_if_needed()  # else the trainer takes the column out
    signature._signature_columns = [*signature._signature_columns, ROW]
    watched = TrainingWatch(labels, class_names)
    hooks = _Hooks(watched)
    model.register_forward_pre_hook(hooks.before, with_kwargs=True, prepend=True)
    model.register_forward_hook(hooks.after)
    trainer.add_callback(_AtTheEnd(watched))
    return watched
