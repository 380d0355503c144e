"""The tasks of the benchmark, by name: data, no code.

::

    cifar10n-aggre                  real noise: a column of given labels beside one of true ones
    crowd-majority                  the same of texts
    flowers-symmetric-20            labels taken as clean, 20 % of them made wrong
    probs/SET                       published out-of-sample probabilities, in an .npz file
    probs/PREFIX__ensemble          all the models of PREFIX together

A data set lies below the folder that ``--data`` names, under the first of its ``places`` that is
there: see docs/benchmark.md.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches

from labelfix.errors import BenchmarkError

PLANTED = ("symmetric", "class-dependent", "instance-dependent", "independent", "correlated")
"""The kinds of noise that can be planted: see `labelfix.benchmark.noise`."""

PROBABILITIES = "probs/"
ENSEMBLE = "ensemble"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleData:
    """A labeled data set, wherever it lies.

    Args:
        name: What tasks are called after.
        places: File or folder below the data folder, the first that is there.
        true_column: The column of true labels, ``None`` to find it by name.
        test_places: A clean test set of its own; without one and without a test split in the data,
            a quarter of each class is held out.
        about: What it is, in a phrase.
        modality: Of its samples, by name.
        has_test: Whether there is a test set at all. Features of texts are made from the whole data
            set (see `labelfix.modalities.text.ngrams`), so that those of others mean nothing to a
            head that was trained on them.
    """

    name: str
    places: tuple[str, ...]
    about: str
    true_column: str | None = None
    test_places: tuple[str, ...] = ()
    modality: str = "image"
    has_test: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RealTask:
    """Labels that people gave, beside the true ones."""

    name: str
    data: SampleData
    given_column: str
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedTask:
    """Labels taken as clean, some of which are made wrong.

    Args:
        name: Of the task.
        data: The samples and their labels.
        kind: One of ``PLANTED``.
        rate: Of the noise, in the sense of that kind; ``None`` where it cannot be chosen.
        version: Raised when the same name would give other labels.
    """

    name: str
    data: SampleData
    kind: str
    rate: float | None
    version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbsTask:
    """Published probabilities; ``name`` without its prefix is the set, or ends in ``ensemble``."""

    name: str
    version: int = 1

    @property
    def set_name(self) -> str:
        """Return what the arrays in the file begin with."""
        return self.name.removeprefix(PROBABILITIES)


Task = RealTask | PlantedTask | ProbsTask

CIFAR10N = SampleData(
    name="cifar10n",
    places=("cifar10n_train.parquet",),
    true_column="clean_label",
    test_places=("cifar10_test.parquet",),
    about="CIFAR-10 with labels that people gave (Wei et al. 2022), 50,000 images, 10 classes",
)

CROWD = SampleData(
    name="crowd",
    places=("crowd_sentiment_train.csv",),
    true_column="clean_label",
    about="sentences of film reviews, good or bad, labeled by workers (Rodrigues et al. 2013)",
    modality="text",
    has_test=False,
)


def _texts(name: str, about: str) -> SampleData:
    return SampleData(
        name=name,
        places=(f"{name}_train.csv", f"{name}_train.parquet"),
        about=about,
        modality="text",
        has_test=False,
    )


SAMPLE_DATA = {
    data.name: data
    for data in (
        SampleData(
            name="cifar10",
            places=CIFAR10N.places,
            true_column=CIFAR10N.true_column,
            test_places=CIFAR10N.test_places,
            about="the same images with their own labels",
        ),
        SampleData(
            name="flowers",
            places=("flowers", "flowers.parquet", "flowers128.parquet"),
            about="photos of five kinds of flowers",
        ),
        SampleData(name="indoor", places=("indoor",), about="MIT-Indoor, 67 scenes"),
        SampleData(name="cub", places=("cub",), about="CUB-200-2011, 200 birds"),
        SampleData(name="cars", places=("cars",), about="Stanford Cars, 196 models"),
        SampleData(name="dogs", places=("dogs",), about="Stanford Dogs, 120 breeds"),
        SampleData(name="aircraft", places=("aircraft",), about="FGVC Aircraft, 100 variants"),
        SampleData(name="caltech256", places=("caltech256",), about="Caltech-256, 256 things"),
        SampleData(name="flowers102", places=("flowers102",), about="Oxford Flowers, 102 kinds"),
        _texts("banking77", "Banking77, questions to a bank, 77 intents"),
        _texts("trec", "TREC, questions, 6 kinds of answers"),
        _texts("sst2", "SST-2, phrases of film reviews, good or bad"),
        _texts("agnews", "AG News, 4 kinds of news"),
        _texts("newsgroups", "20 Newsgroups, posts without headers, footers and quotes"),
    )
}
"""Data sets in which noise is planted, images and then texts; those from ``indoor`` to
``flowers102`` are of Li & Zhang (NeurIPS 2021)."""

REAL_TASKS = {
    f"cifar10n-{short}": RealTask(name=f"cifar10n-{short}", data=CIFAR10N, given_column=column)
    for short, column in {
        "aggre": "aggre_label",
        "random1": "random_label1",
        "worse": "worse_label",
    }.items()
} | {
    f"crowd-{short}": RealTask(name=f"crowd-{short}", data=CROWD, given_column=column)
    for short, column in {"one": "one_annotator", "majority": "majority"}.items()
}

USUAL_RATES = {"independent": (20, 40, 60, 80), "correlated": ()}
OTHER_RATES = (20, 40)


def named_tasks() -> Iterator[Task]:
    """Yield the tasks with a name of their own; any other rate in percent may be asked for too."""
    yield from REAL_TASKS.values()
    for data in SAMPLE_DATA:
        for kind in PLANTED:
            rates = USUAL_RATES.get(kind, OTHER_RATES)
            yield from (find_task(f"{data}-{kind}-{rate}") for rate in rates)
            if not rates:
                yield find_task(f"{data}-{kind}")


def find_task(name: str) -> Task:
    """Return the task of a name.

    Raises:
        BenchmarkError: There is none.
    """
    if name in REAL_TASKS:
        return REAL_TASKS[name]
    if name.startswith(PROBABILITIES) and len(name) > len(PROBABILITIES):
        return ProbsTask(name=name)
    found = _PLANTED_NAME.fullmatch(name)
    if found and found["data"] in SAMPLE_DATA:
        return planted_task(SAMPLE_DATA[found["data"]], found["kind"], found["percent"])
    near = get_close_matches(name, [task.name for task in named_tasks()], n=3)
    raise BenchmarkError(
        f"there is no task {name!r}",
        hint=f"did you mean {', '.join(near)}?" if near else "see labelfix benchmark list",
    )


def planted_task(data: SampleData, kind: str, percent: str | None) -> PlantedTask:
    """Return the task of planting one kind of noise.

    Args:
        data: The samples and their labels.
        kind: One of ``PLANTED``.
        percent: The rate as it stands in the task's name, or ``None``.

    Raises:
        BenchmarkError: There is no such kind, or it needs a rate, or takes none.
    """
    if kind not in PLANTED:
        raise BenchmarkError(
            f"there is no noise {kind!r}", hint=f"choose one of {', '.join(PLANTED)}"
        )
    if (kind == "correlated") != (percent is None):
        raise BenchmarkError(
            f"the rate of {kind} noise is not to be chosen"
            if percent
            else f"{kind} noise needs a rate",
            hint="name tasks like flowers-symmetric-20 and flowers-correlated",
        )
    name = "-".join(part for part in (data.name, kind, percent) if part)
    rate = None if percent is None else float(percent) / 100
    return PlantedTask(name=name, data=data, kind=kind, rate=rate)


_PLANTED_NAME = re.compile(
    rf"(?P<data>[a-z0-9]+)-(?P<kind>{'|'.join(PLANTED)})(?:-(?P<percent>\d{{1,2}}(?:\.\d+)?))?"
)
