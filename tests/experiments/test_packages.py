"""An experiment stands by itself: it imports the library, what all share, and one task."""

import ast
from collections import defaultdict
from pathlib import Path

import pytest

import experiments

ROOT = Path(experiments.__file__).parent
TASKS = {"sandbox", "valence", "arithmetic"}
SHARED = {"common"}
PACKAGES = sorted(path.name for path in ROOT.iterdir() if (path / "__init__.py").exists())


def imported(path: Path) -> set[str]:
    """Modules of `experiments` that a file imports, without that prefix."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: a relative import"
            found.add(node.module)
            found |= {f"{node.module}.{name.name}" for name in node.names}
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return {name.removeprefix("experiments.") for name in found if name.startswith("experiments.")}


def packages_of(name: str) -> set[str]:
    """Other packages of `experiments` that a package imports."""
    files = (ROOT / name).rglob("*.py")
    return {module.split(".")[0] for path in files for module in imported(path)} - {name}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_imports_no_other_experiment(name):
    others = packages_of(name) - SHARED
    if name in TASKS | SHARED:
        assert not others, f"experiments/{name} imports {', '.join(sorted(others))}"
    else:
        assert others <= TASKS, f"experiments/{name} imports {', '.join(sorted(others - TASKS))}"
        assert len(others) <= 1, f"experiments/{name} has two tasks: {', '.join(sorted(others))}"


def test_what_one_package_imports_lies_in_it():
    importers = defaultdict(set)
    for path in ROOT.rglob("*.py"):
        for module in imported(path):
            importers[module].add(path.relative_to(ROOT).parts[0])
    for name in TASKS | SHARED:
        for path in (ROOT / name).glob("[!_]*.py"):
            users = importers[f"{name}.{path.stem}"]
            assert len(users) != 1 or users == {name}, f"{path}: only {users.pop()} imports it"
            assert users, f"{path}: nothing imports it"


def test_an_experiment_is_a_package():
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py"}
