"""Imports between modules: no cycles, and no benchmarked method reaches the true labels.

import-linter holds the order of the packages: see pyproject.toml and `make lint`.
"""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

SRC = Path(__file__).parents[1] / "src" / "labelfix"

MODULES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SRC.rglob("*.py"))
}

METHODS_OF_BENCHMARK = (
    "benchmark.methods.ours",
    "benchmark.methods.cleanlab",
    "benchmark.methods.cleanlab_network",
    "benchmark.methods.baselines",
    "benchmark.methods.neighbors",
)
KNOW_THE_TRUTH = {
    "benchmark.data", "benchmark.metrics", "benchmark.run", "benchmark.stage",
    "benchmark.noise", "benchmark.sample_files",
}  # fmt: skip


def imports_of(path: Path) -> set[str]:
    """Return the labelfix modules that a file imports, ``if TYPE_CHECKING`` blocks left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import in line {node.lineno}"
            names.add(node.module or "")
    return {name.removeprefix("labelfix.") for name in names if name.startswith("labelfix.")}


GRAPH = {name: imports_of(path) for name, path in MODULES.items()}


def reachable(module: str) -> set[str]:
    found: set[str] = set()
    waiting = [module]
    while waiting:
        for other in GRAPH.get(waiting.pop(), set()) - found:
            found.add(other)
            waiting.append(other)
    return found


def test_imports_have_no_cycle() -> None:
    TopologicalSorter(GRAPH).prepare()  # raises CycleError and names the cycle


def test_no_module_imports_the_package_itself() -> None:
    for name, path in MODULES.items():
        source = path.read_text(encoding="utf-8")
        assert "from labelfix import" not in source or name == "__main__", name


def test_no_method_of_the_benchmark_reaches_the_truth() -> None:
    for module in [*METHODS_OF_BENCHMARK, "benchmark.shared", "benchmark.worker"]:
        assert reachable(module).isdisjoint(KNOW_THE_TRUTH), module


def test_only_modalities_know_which_kind_of_sample_there_is():
    """What differs between kinds of samples is asked of the modality: there is one flow."""
    asks = re.compile(r"""modality(?:\.name)?\s*(?:==|!=|\bin\b\s*[\[({])""")
    for name, path in MODULES.items():
        if name.startswith("modalities"):
            continue
        found = asks.findall(path.read_text(encoding="utf-8"))
        assert not found, f"{path}: {found}"
