"""The methods of the benchmark, by name: data, no code of theirs.

Each runs in a process of its own, so each module is imported only there.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Literal

from labelfix.config import AuditConfig, BackboneConfig
from labelfix.errors import BenchmarkError
from labelfix.modalities.base import Modality

Needs = Literal["samples", "networks", "features", "probabilities", "labels"]
"""What a method reads besides labels: samples, samples of which whole networks can be trained, ...;
``"labels"`` means that it reads nothing else."""


@dataclass(frozen=True, slots=True)
class Method:
    """A way to find wrong labels.

    Args:
        name: Its name.
        module: The module that holds it.
        function: What is called there: takes a ``Problem``, returns ``MethodOutputs``.
        needs: What it reads besides labels.
        about: What it is, in a phrase.
        is_slow: It trains whole networks; only run when it is named.
        package: What has to be installed for it, ``""`` if nothing more.
    """

    name: str
    module: str
    function: str
    needs: Needs
    about: str
    is_slow: bool = False
    package: str = ""

    @property
    def uses_features(self) -> bool:
        """Return whether its cost goes on top of that of looking at the images once."""
        return self.needs == "features" or self.name == "labelfix-head"


METHODS = {
    method.name: method
    for method in (
        Method("labelfix-head", "ours", "head", "samples", "labelfix audit --tune head"),
        Method(
            "labelfix-top",
            "ours",
            "top",
            "networks",
            "labelfix audit --tune top",
            is_slow=True,
        ),
        Method(
            "labelfix-full",
            "ours",
            "full",
            "networks",
            "labelfix audit --tune full",
            is_slow=True,
        ),
        Method(
            "labelfix-probs",
            "ours",
            "published",
            "probabilities",
            "labelfix on given probabilities",
        ),
        Method(
            "cleanlab-logistic",
            "cleanlab",
            "logistic",
            "features",
            "cleanlab on 5 folds of logistic regression on the same features",
            package="cleanlab",
        ),
        Method(
            "cleanlab-network",
            "cleanlab_network",
            "network",
            "networks",
            "cleanlab on 5 folds of the same backbone, fine-tuned plainly",
            is_slow=True,
            package="cleanlab",
        ),
        Method(
            "cleanlab-datalab",
            "cleanlab",
            "datalab",
            "features",
            "cleanlab's Datalab on the same features",
            package="datasets",
        ),
        Method(
            "cleanlab-probs",
            "cleanlab",
            "published",
            "probabilities",
            "cleanlab on given probabilities",
            package="cleanlab",
        ),
        Method(
            "aum",
            "baselines",
            "aum",
            "features",
            "area under the margin of a linear head, with threshold samples",
        ),
        Method(
            "small-loss",
            "baselines",
            "small_loss",
            "features",
            "mean loss of a linear head over training, with a mixture of two",
        ),
        Method(
            "knn-vote",
            "neighbors",
            "knn_vote",
            "features",
            "vote of the 50 nearest neighbors",
        ),
        Method(
            "simifeat-vote",
            "neighbors",
            "simifeat_vote",
            "features",
            "vote and rank of the 10 nearest neighbors, after SimiFeat",
        ),
        Method("random", "neighbors", "chance", "labels", "drawn scores"),
    )
}

REFERENCE = "labels"
"""The name under which training on the given and on the true labels themselves is reported."""


def find_method(name: str) -> Method:
    """Return the method of a name.

    Raises:
        BenchmarkError: There is none.
    """
    if name in METHODS:
        return METHODS[name]
    near = get_close_matches(name, METHODS, n=3)
    raise BenchmarkError(
        f"there is no method {name!r}",
        hint=f"did you mean {', '.join(near)}?" if near else f"choose of {', '.join(METHODS)}",
    )


def is_installed(method: Method) -> bool:
    """Return whether the package that a method needs is there."""
    return not method.package or find_spec(method.package) is not None


def misfit(method: Method, modality: Modality | None, backbone: BackboneConfig) -> str:
    """Return why a method cannot be run on a task, a sentence without its end; ``""`` if it can.

    Args:
        method: Which.
        modality: Of the samples of the task; ``None`` where it gives probabilities.
        backbone: Which network is asked for.
    """
    if method.needs == "labels" or (method.needs == "probabilities" and modality is None):
        return ""
    if modality is None:
        return "the task gives probabilities alone, and it reads samples"
    if method.needs == "probabilities":
        return "it reads probabilities, and the task gives none"
    if method.needs == "networks" and not modality.has_network(AuditConfig(backbone=backbone)):
        return f"the backbone of {modality.plural} is no network that can be trained"
    return ""
