"""``labelfix benchmark``: how well wrong labels are found, by labelfix and by others.

Nothing heavy is imported before a command needs it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from labelfix.cli.console import print_json, stdout_console
from labelfix.cli.options import Run, WhereItRuns, path_of
from labelfix.config import EMBEDDED_BACKBONE, BackboneConfig
from labelfix.errors import BenchmarkError, LabelfixError
from labelfix.utils.text import plain

if TYPE_CHECKING:
    from labelfix.benchmark.data import TaskData
    from labelfix.benchmark.methods.registry import Method
    from labelfix.benchmark.rows import BenchmarkRow
    from labelfix.benchmark.run import Setup
    from labelfix.benchmark.tasks import Task
    from labelfix.utils.progress import OnProgress


benchmark = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Measure how well wrong labels are found, on tasks whose truth is known.",
)

DataFolder: TypeAlias = Annotated[
    Path,
    typer.Option(
        "--data",
        parser=path_of("data"),
        metavar="FOLDER",
        help="Where the data sets lie: see docs/benchmark.md.",
    ),
]
Methods: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAMES",
        help="Separated by commas. All that are installed and train no whole network if left out.",
    ),
]
Samples: TypeAlias = Annotated[
    int | None,
    typer.Option(min=20, metavar="N", help="Only a fixed random subset of so many samples."),
]
Backbone: TypeAlias = Annotated[
    str, typer.Option(metavar="NAME", help="The network that looks at images or texts.")
]
Weights: TypeAlias = Annotated[
    Path | None,
    typer.Option(parser=path_of("weights"), metavar="FILE", help="Its weights, as safetensors."),
]
ImageSize: TypeAlias = Annotated[
    int | None, typer.Option(metavar="PIXELS", help="A side, as it sees images.")
]
OnDevice: TypeAlias = WhereItRuns
Cache: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        parser=path_of("cache"),
        metavar="FOLDER",
        help="Where samples and features are kept for the next run.",
    ),
]
Results: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        parser=path_of("results"), metavar="FILE", help="Add the rows to this file of JSON lines."
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]


@benchmark.command("list")
def list_all(
    data: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("data"),
            metavar="FOLDER",
            help="Say which data sets lie there; name its probabilities.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show tasks, methods and their versions."""
    from labelfix.benchmark.cost import library_versions
    from labelfix.benchmark.data import sets_in
    from labelfix.benchmark.methods.registry import METHODS, is_installed
    from labelfix.benchmark.tasks import PROBABILITIES, named_tasks
    from labelfix.cli.benchmark_tables import print_list

    sets = [] if data is None else [f"{PROBABILITIES}{name}" for name in sets_in(data)]
    if not as_json:
        print_list(stdout_console(), data, sets)
        return
    tasks = [{"task": task.name, "version": task.version} for task in named_tasks()]
    values = {
        "tasks": [*tasks, *({"task": name, "version": 1} for name in sets)],
        "methods": [
            {"method": m.name, "about": m.about, "installed": is_installed(m)}
            for m in METHODS.values()
        ],
        "versions": library_versions(),
    }
    print_json(values)


@benchmark.command()
def run(
    data: DataFolder,
    tasks: Annotated[
        list[str], typer.Option(metavar="NAMES", help="Separated by commas: see list.")
    ],
    results: Annotated[
        Path,
        typer.Option(
            parser=path_of("results"),
            metavar="FILE",
            help="Add the rows to this file of JSON lines.",
        ),
    ],
    methods: Methods = None,
    seeds: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBERS", help="Separated by commas; 0 if left out."),
    ] = None,
    samples: Samples = None,
    downstream: Annotated[
        bool, typer.Option(help="Train on the cleaned labels too, where there is a test set.")
    ] = True,
    again: Annotated[
        bool,
        typer.Option("--again", help="Measure anew what the file holds for the same commit."),
    ] = False,
    backbone: Backbone = EMBEDDED_BACKBONE,
    weights: Weights = None,
    image_size: ImageSize = None,
    device: OnDevice = "auto",
    cache: Cache = None,
    quiet: Quiet = False,
) -> None:
    """Run methods on tasks, seed after seed, and add a row for each to a file."""
    from labelfix.benchmark.data import open_probs, open_samples
    from labelfix.benchmark.rows import read_rows
    from labelfix.benchmark.run import is_repeatable, key_of
    from labelfix.benchmark.tasks import ProbsTask, find_task

    chosen = [find_task(name) for name in _split(tasks)]
    known = _methods(methods)
    held = [] if again else [row for row in read_rows(results) if is_repeatable(row)]
    network = BackboneConfig(name=backbone, weights=weights, image_size=image_size, device=device)
    done = frozenset(key_of(row) for row in held)
    with _collect_results(results, quiet=quiet) as results_so_far:
        for task in chosen:
            kind = None if isinstance(task, ProbsTask) else task.data.modality
            fitting = _fitting(
                known, kind, network, task.name, results_so_far, is_named=bool(methods)
            )
            if not fitting:
                results_so_far.fault(
                    task.name, BenchmarkError("none of the methods can be set to it")
                )
                continue
            setup = _setup(
                fitting,
                _numbers(seeds or ["0"], "seeds"),
                cache,
                network,
                downstream=downstream,
                done=done,
            )
            try:
                opened = (
                    open_probs(task, data, samples=samples)
                    if isinstance(task, ProbsTask)
                    else open_samples(task, data, samples=samples)
                )
            except LabelfixError as error:
                results_so_far.fault(task.name, error)
                continue
            results_so_far.run(task, opened, setup)
    _end(results_so_far, quiet=quiet)


@benchmark.command()
def inject(
    data: Annotated[
        Path,
        typer.Argument(
            parser=path_of("data"),
            metavar="DATA",
            help="A labeled data set, as labelfix audit takes it.",
        ),
    ],
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Of noise: symmetric, class-dependent, instance-dependent, independent, "
            "correlated. The first two if left out.",
        ),
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0.001, max=0.99, metavar="R", help="Share of labels made wrong.")
    ] = 0.2,
    repeats: Annotated[
        int, typer.Option(min=1, metavar="N", help="How often errors are planted, each elsewhere.")
    ] = 3,
    methods: Annotated[
        list[str] | None,
        typer.Option(metavar="NAMES", help="Separated by commas; labelfix-head if left out."),
    ] = None,
    samples: Samples = None,
    image_column: Annotated[str | None, typer.Option(metavar="NAME", help="As for audit.")] = None,
    label_column: Annotated[str | None, typer.Option(metavar="NAME", help="As for audit.")] = None,
    split_column: Annotated[str | None, typer.Option(metavar="NAME", help="As for audit.")] = None,
    backbone: Backbone = EMBEDDED_BACKBONE,
    weights: Weights = None,
    image_size: ImageSize = None,
    device: OnDevice = "auto",
    cache: Cache = None,
    results: Results = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Plant errors in DATA, in a copy of its labels, and say how many are found."""
    from labelfix.benchmark.data import choose_rows
    from labelfix.benchmark.tasks import SampleData, planted_task
    from labelfix.cli.benchmark_tables import print_injected
    from labelfix.config import DatasetConfig
    from labelfix.data.dataset import open_dataset

    percent = f"{100 * rate:g}"
    about = SampleData(name=data.absolute().name, places=(), about="")
    tasks = [
        planted_task(about, kind, None if kind == "correlated" else percent)
        for kind in _split(kinds or ["symmetric", "class-dependent"])
    ]
    network = BackboneConfig(name=backbone, weights=weights, image_size=image_size, device=device)
    columns = DatasetConfig(
        image_column=image_column, label_column=label_column, split_column=split_column
    )
    known = _methods(methods or ["labelfix-head"])
    with _collect_results(results, quiet=quiet) as results_so_far:
        opened = choose_rows(
            open_dataset(data, columns, results_so_far), samples=samples, holds_out=False
        )
        fitting = _fitting(
            known, opened.modality, network, about.name, results_so_far, is_named=True
        )
        if not fitting:
            raise BenchmarkError(
                f"none of the methods can be set to it: {'; '.join(results_so_far.left_out)}"
            )
        setup = _setup(fitting, range(repeats), cache, network, command="inject")
        for task in tasks:
            results_so_far.run(task, opened, setup)
    if as_json:
        print_json([row.to_json() for row in results_so_far.held])
    elif not quiet and results_so_far.held:
        print_injected(stdout_console(), results_so_far.held)
        _tell_left_out(results_so_far)
    _end(results_so_far, quiet=True)


@benchmark.command()
def value(
    run: Run,
    test: Annotated[
        str | None,
        typer.Option(
            metavar="SPLIT", help="The split to test on. Left out: those called test, val ..."
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(min=1, metavar="N", help="How often everything is trained. Default: 3.")
    ] = 3,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train on the given and on the cleaned labels of a RUN, and say whether cleaning pays.

    Heads are trained on the features of the audit and tested on a split that is never cleaned; test
    labels are taken as given.
    """
    from labelfix.benchmark.value import value_of
    from labelfix.cli.benchmark_tables import print_value
    from labelfix.utils.progress import no_progress
    from labelfix.utils.progress_bars import shown_progress

    with shown_progress() as on_progress:
        found = value_of(
            run, test=test, seeds=seeds, on_progress=no_progress if quiet else on_progress
        )
    if as_json:
        print_json(found.to_json())
    else:
        print_value(stdout_console(), found)


@benchmark.command()
def scale(
    samples: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBERS", help="Separated by commas. Default: 10000,100000."),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBERS", help="Separated by commas. Default: 10,100."),
    ] = None,
    vectors_up_to: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Audit vectors too, up to so many samples."),
    ] = 10_000,
    folder: Annotated[
        Path | None,
        typer.Option(
            parser=path_of("folder"),
            metavar="FOLDER",
            help="Where the data lie meanwhile. Left out: the system's temporary folder.",
        ),
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="How much memory audits may take, such as 2GiB."),
    ] = None,
    results: Results = None,
    plot: Annotated[
        Path | None,
        typer.Option(parser=path_of("plot"), metavar="FILE", help="Draw the times as SVG."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run the commands on data made for it, larger and larger, and say what each costs.

    Time, memory and disk of audits of probabilities and vectors, show, check and export, each in a
    process of its own; then how time grows with the number of samples: an exponent of 1 is linear.
    """
    from labelfix.benchmark.plots import import_matplotlib, scale_svg
    from labelfix.benchmark.scale import ScaleRow, append_rows, growth_of, measure
    from labelfix.cli.benchmark_tables import print_scale
    from labelfix.utils.files import atomic_path
    from labelfix.utils.progress import no_progress
    from labelfix.utils.progress_bars import shown_progress

    def keep(row: ScaleRow) -> None:
        if results is not None:
            append_rows(results, [row])

    if plot is not None:
        import_matplotlib()  # missing, it is told now and not after the last command
    with shown_progress() as on_progress:
        rows = measure(
            _numbers(samples or ["10000,100000"], "samples", least=20),
            _numbers(classes or ["10,100"], "classes", least=2),
            vectors_up_to=vectors_up_to,
            folder=folder,
            memory=memory,
            on_row=keep,
            on_progress=no_progress if quiet else on_progress,
        )
    if plot is not None:
        with atomic_path(plot) as draft:
            draft.write_text(scale_svg(rows), encoding="utf-8")
    if as_json:
        print_json([row.to_json() for row in rows])
    elif not quiet:
        print_scale(stdout_console(), rows, growth_of(rows))


@benchmark.command()
def tables(
    results: Annotated[
        list[Path],
        typer.Argument(
            parser=path_of("results"), metavar="RESULTS", help="Files of rows that `run` wrote."
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(parser=path_of("out"), metavar="FILE", help="The page to write, Markdown."),
    ],
    quiet: Quiet = False,
) -> None:
    """Write tables and plots of files of rows: the same rows always give the same bytes."""
    from labelfix.benchmark.tables import write_pages

    for path in write_pages(results, out):
        if not quiet:
            typer.echo(f"wrote {path}")


@dataclass(slots=True)
class ResultCollector:
    """Takes rows as they come, and what failed."""

    results: Path | None
    on_progress: "OnProgress"
    held: list["BenchmarkRow"] = field(default_factory=list)
    faults: list[tuple[str, LabelfixError]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def __call__(self, progress: Any, /) -> None:
        """Show one step of progress."""
        self.on_progress(progress)

    def run(self, task: "Task", data: "TaskData", setup: "Setup") -> None:
        """Set a task to the methods, and take the rows and faults that come of it."""
        from labelfix.benchmark.run import run_task

        run_task(task, data, setup, on_rows=self.rows, on_fault=self.fault, on_progress=self)

    def rows(self, rows: Sequence["BenchmarkRow"]) -> None:
        """Hold rows, and append them to the file of results if there is one."""
        from labelfix.benchmark.rows import append_rows

        self.held.extend(rows)
        if self.results is not None:
            append_rows(self.results, rows)

    def fault(self, where: str, error: LabelfixError) -> None:
        """Hold why a task or a method has no rows."""
        self.faults.append((where, error))


@contextmanager
def _collect_results(results: Path | None, *, quiet: bool) -> Iterator[ResultCollector]:
    from labelfix.utils.progress_bars import shown_progress

    with shown_progress(quiet=quiet, first="loading libraries") as on_progress:
        yield ResultCollector(results, on_progress)


def _end(results_so_far: ResultCollector, *, quiet: bool) -> None:
    """Say what was measured and what failed; end with exit code 1 if something did."""
    if not quiet:
        from labelfix.cli.benchmark_tables import print_rows

        print_rows(stdout_console(), results_so_far.held)
        typer.echo(f"{len(results_so_far.held)} rows were added to {results_so_far.results}")
        _tell_left_out(results_so_far)
    for where, error in results_so_far.faults:
        typer.secho(f"failed: {where}: ", err=True, fg=typer.colors.RED, nl=False)
        typer.echo(_plain(str(error)), err=True)
        if error.hint:
            typer.echo(f"  {_plain(error.hint)}", err=True)
    if results_so_far.faults:
        raise BenchmarkError(
            f"{len(results_so_far.faults)} of the runs failed; the rows of the others are kept",
            hint="mend what is said above; the same command then runs only what is missing",
        )


def _tell_left_out(results_so_far: ResultCollector) -> None:
    for sentence in results_so_far.left_out:
        typer.echo(_plain(f"left out: {sentence}"))


def _fitting(
    methods: Sequence["Method"],
    kind: str | None,
    backbone: BackboneConfig,
    where: str,
    results_so_far: ResultCollector,
    *,
    is_named: bool,
) -> list["Method"]:
    """Return the methods that can be set to samples, and hold why others that were named cannot.

    Args:
        methods: Those that are asked for.
        kind: The modality of the samples; ``None`` where there are probabilities.
        backbone: Which network is asked for.
        where: The task or the data set.
        results_so_far: Told what is left out.
        is_named: Whether the methods were named, so that what becomes of them matters.
    """
    from labelfix.benchmark.methods.registry import misfit
    from labelfix.modalities.base import get_modality

    modality = None if kind is None else get_modality(kind)
    reasons = {method.name: misfit(method, modality, backbone) for method in methods}
    if is_named:
        results_so_far.left_out += [
            f"{name} on {where}: {reason}" for name, reason in reasons.items() if reason
        ]
    return [method for method in methods if not reasons[method.name]]


def _plain(text: str) -> str:
    return plain(" ".join(text.splitlines()))


def _setup(
    methods: Sequence["Method"],
    seeds: Sequence[int],
    cache: Path | None,
    backbone: BackboneConfig,
    *,
    downstream: bool = False,
    done: frozenset[Any] = frozenset(),
    command: str = "run",
) -> "Setup":
    from labelfix.benchmark.run import Setup
    from labelfix.utils.cache import default_cache

    return Setup(
        methods=methods,
        seeds=seeds,
        cache=(cache or default_cache()).absolute(),
        backbone=backbone,
        with_downstream=downstream,
        done=done,
        command=command,
    )


def _methods(names: list[str] | None) -> list["Method"]:
    from labelfix.benchmark.methods.registry import METHODS, find_method, is_installed

    if names:
        return [find_method(name) for name in _split(names)]
    return [m for m in METHODS.values() if not m.is_slow and is_installed(m)]


def _split(values: Sequence[str]) -> list[str]:
    return [name for value in values for part in value.split(",") if (name := part.strip())]


def _numbers(values: Sequence[str], what: str, *, least: int = 0) -> list[int]:
    try:
        numbers = [int(value) for value in _split(values)]
    except ValueError as error:
        raise typer.BadParameter(f"{what} are whole numbers: {error}") from error
    if any(number < least for number in numbers):
        raise typer.BadParameter(f"{what} are {least} or more")
    return numbers
