"""What the documentation promises exists: references, experiment headers, commands."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from irl_jax.report.expected import FILE, parse_expected, read_all, with_table
from irl_jax.report.papers import find_citations, modules
from tests.losses.cases import CASES

ROOT = Path(__file__).resolve().parent.parent
TREES = {name: tree for package in ("irl_jax", "experiments") for name, tree in modules(package)}
MEASURED = sorted(path.parent.name for path in ROOT.glob(f"experiments/*/{FILE}"))
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *(f"experiments/{name}/{FILE}" for name in MEASURED)]
PREFERENCE = "irl_jax.losses.preference"
PARTS = {
    f"{PREFERENCE}.pairwise",
    f"{PREFERENCE}.pairwise_loss",
    "irl_jax.losses.policy.policy_gradient",
    "irl_jax.losses.regularisation.mix",
    "irl_jax.losses.direct.direct_alignment",
    "irl_jax.losses.direct.add_likelihood",
    "irl_jax.losses.unpaired.unpaired_alignment",
    "irl_jax.losses.listwise.listwise_alignment",
    "irl_jax.dynamics.turns.to_tokens",
    "irl_jax.dynamics.turns.at_first_token",
    *(
        f"irl_jax.dynamics.planning.{name}"
        for name in ("check_mdp", "cumulative_discount", "expected_next", "flow")
    ),
}  # forms of objectives, no paper's own
# depend on how a batch is cut, or read none: test_transport.py, test_unpaired.py, test_inverse.py,
# test_matching.py
NO_SUMS = {
    "aot",
    "aot_unpaired",
    "bco_pair",
    "occupancy_matching",
    "state_matching",
    "value_dice",
}
HEADER = ("Claim", "Command", "Runtime", "Expected")
MAX_EXPECTED = 250  # characters: a pointer to the figures and a line or two, no list of them


def public_functions(name: str) -> list[ast.FunctionDef]:
    return [
        node
        for node in TREES[name].body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]


def objectives() -> list[tuple[str, str]]:
    """Name and docstring of every public function that is a paper's: losses, advantages."""
    found = []
    for name in TREES:
        for function in public_functions(name):
            is_loss = function.returns is not None and ast.unparse(function.returns) == "Loss"
            if name.startswith("irl_jax.dynamics.") or (
                name.startswith("irl_jax.losses.") and is_loss
            ):
                symbol = f"{name}.{function.name}"
                if symbol not in PARTS:
                    found.append((symbol, ast.get_docstring(function) or ""))
    return found


def test_there_are_objectives():
    assert {symbol.rsplit(".", 1)[1] for symbol, _ in objectives()} >= {"dpo", "grpo", "nll"}


@pytest.mark.parametrize(("symbol", "docstring"), objectives(), ids=lambda value: value[:60])
def test_an_objective_gives_equation_reference_and_shapes(symbol, docstring):
    assert re.search(r"^Reference: ", docstring, re.MULTILINE), f"{symbol} names no paper"
    prose = docstring.partition("\nArgs:")[0]
    assert re.search(r"[=Σ𝔼∝≈−]", prose), f"{symbol} gives no equation"
    assert re.search(r"\w+\[[^\]]+\]", docstring), f"{symbol} gives no shape, as f32[B, T]"


def test_citations_of_one_paper_agree():
    """Every citation can be read; one arXiv number is one paper."""
    papers: dict[str, set[str]] = {}
    for name, tree in TREES.items():
        for citation in find_citations(name, tree):
            if citation.arxiv:
                papers.setdefault(citation.arxiv, set()).add(citation.authors)
    assert {number: cited for number, cited in papers.items() if len(cited) > 1} == {}


def test_every_loss_has_an_oracle():
    tested = {case.loss.__name__ for case in CASES} | NO_SUMS
    losses = {symbol for symbol, _ in objectives() if symbol.startswith("irl_jax.losses.")}
    assert {symbol for symbol in losses if symbol.rsplit(".", 1)[1] not in tested} == set()


def experiments() -> list[str]:
    """Modules that a user runs: those that call something under `__main__`."""
    return [
        name.removesuffix(".__main__")
        for name, tree in TREES.items()
        if name.startswith("experiments.")
        and ".peers." not in name
        and any(isinstance(node, ast.If) and "__main__" in ast.unparse(node) for node in tree.body)
    ]


def header_problems(docstring: str) -> list[str]:
    """What is missing from the header of an experiment."""
    fields = dict(re.findall(r"^(\w+): (.+?)(?=^\w+: |\Z)", docstring, re.MULTILINE | re.DOTALL))
    problems = [f"no {name}:" for name in HEADER if name not in fields]
    if "Runtime" in fields and not re.search(r"\d", fields["Runtime"]):
        problems.append("Runtime: gives no number")
    if "Expected" in fields:
        first = fields["Expected"].split()[0].rstrip(".")
        if not first.endswith(f"/{FILE}") or not (ROOT / first).exists():
            problems.append(f"Expected: names no {FILE}")
        if len(fields["Expected"]) > MAX_EXPECTED:
            problems.append(f"Expected: is long; its figures belong into {FILE}")
    if "Command" in fields and not re.search(r"python -m experiments\.|make ", fields["Command"]):
        problems.append("Command: names no command")
    return problems


@pytest.mark.parametrize("name", experiments())
def test_an_experiment_says_claim_command_runtime_and_expected(name):
    docstring = ast.get_docstring(TREES[name])
    assert header_problems(docstring) == []
    for module in re.findall(r"python -m (experiments\.\S+)", docstring):
        assert module.rstrip(".,:;)`") in TREES


def test_a_header_that_lacks_something_is_seen():
    whole = (
        "Title.\n\nClaim: a.\nCommand: python -m experiments.x\nRuntime: 5 min\n"
        "Expected: experiments/quickstart/expected.md. It\n    rises."
    )
    assert header_problems(whole) == []
    for name in HEADER:
        assert header_problems(whole.replace(f"{name}:", "")) == [f"no {name}:"]
    assert header_problems(whole.replace("5 min", "soon")) == ["Runtime: gives no number"]
    elsewhere = whole.replace("quickstart/", "nowhere/")
    assert header_problems(elsewhere) == ["Expected: names no expected.md"]
    (problem,) = header_problems(whole.replace("rises", "0.1 [0.0, 0.2], " * 20))
    assert problem.startswith("Expected: is long")


def test_every_experiment_has_its_figures_beside_it():
    packages = {name: name.split(".")[1] for name in experiments()}
    assert set(packages.values()) == set(MEASURED)
    for name, package in packages.items():
        own = f"Expected: experiments/{package}/{FILE}."
        assert own in (ast.get_docstring(TREES[name]) or "")


@pytest.mark.parametrize("name", MEASURED)
def test_figures_can_be_read_and_name_their_command(name):
    text = (ROOT / "experiments" / name / FILE).read_text(encoding="utf-8")
    runs = parse_expected(text).runs
    assert re.search(rf"python -m experiments\.{name}\b", runs.column("command")[0])
    assert all(re.search(r"\d", repeats) for repeats in runs.column("repeats"))


def test_the_table_of_experiments_is_made_from_their_figures():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    made = with_table(readme, read_all(ROOT / "experiments"))
    assert made == readme, "python -m irl_jax.report.expected README.md"


def commands(text: str) -> list[str]:
    """Lines of fenced or indented blocks, and inline code."""
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^    (.+)$", rest, re.MULTILINE)
    return [line for block in fenced for line in block.splitlines()] + (
        indented + re.findall(r"`([^`\n]+)`", rest)
    )


def is_module(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the package it would be in
        return False


def unknown(text: str) -> list[str]:
    """Make targets, modules and paths of the repository that a document names wrongly."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    problems = []
    for line in commands(text):
        problems += [
            f"make {target}"
            for target in re.findall(r"(?:^|[;&] ?)make ([a-z-]+)", line)
            if target not in targets
        ]
        problems += [
            f"python -m {module}"
            for module in re.findall(r"python[\d.]* -m ([\w.]+)", line)
            if not is_module(module)
        ]
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", text)
    named = re.findall(r"`((?:irl_jax|experiments|tests|notebooks|\.ci)/[\w./-]*)`", text)
    return problems + [path for path in links + named if not (ROOT / path).exists()]


@pytest.mark.parametrize("path", DOCUMENTS)
def test_a_document_names_what_exists(path):
    assert unknown((ROOT / path).read_text(encoding="utf-8")) == []


def test_a_name_of_nothing_is_seen():
    fenced = "```sh\nmake fly\npython -m irl_jax.nothing --help\n```\n"
    assert unknown(fenced) == ["make fly", "python -m irl_jax.nothing"]
    assert unknown("    make soar\n") == ["make soar"]
    assert unknown("`python3 -m no.such`") == ["python -m no.such"]
    assert unknown("[a](b.md), [c](Makefile), `tests/no.py`") == ["b.md", "tests/no.py"]


def test_the_readme_says_how_to_run_the_experiment_and_the_tests():
    lines = commands((ROOT / "README.md").read_text(encoding="utf-8"))
    assert {"make quickstart", "make test"} <= {line.partition("#")[0].strip() for line in lines}


def test_the_table_of_papers_prints():
    result = subprocess.run(
        [sys.executable, "-m", "irl_jax.report.papers"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    row = next(line for line in result.stdout.splitlines() if "2305.18290" in line)
    assert "Rafailov et al. 2023" in row
    assert "`irl_jax.losses.direct.dpo` eq. 7" in row


def inverse_rl() -> list[str]:
    """The two programs of the README's section on inverse RL."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme.partition("## Inverse RL in ")[2].partition("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL)


def test_the_reward_of_the_readmes_grid_is_found():
    names: dict[str, Any] = {}
    exec(inverse_rl()[0], names)
    reward, errors = np.asarray(names["reward"]), np.asarray(names["errors"])
    assert reward.argmax() == 8 and reward[8] > reward[:8].max() + 0.5
    assert (errors < 0.2).all() and 0.333 < float(names["found"].covariance[8, 8]) ** 0.5 < 0.5


@pytest.mark.slow
def test_the_readmes_cart_pole_is_imitated():
    names: dict[str, Any] = {}
    for program in inverse_rl():
        exec(program, names)
    assert float(eval(inverse_rl()[1].splitlines()[-1], names)) > 400
