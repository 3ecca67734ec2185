"""Which paper is where: a table of papers, the symbols that implement them, experiments.

Read from the `Reference:` paragraphs of docstrings, without importing anything:

    python -m irl_jax.report.papers

A paragraph holds citations separated by semicolons, each `Authors YEAR, "Title",
arXiv NUMBER, where in the paper` (title and number may be missing), or `Name, URL`.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("irl_jax", "experiments")

_PARAGRAPH = re.compile(r"^Reference: (.+?)(?:\n\n|\s+Differs:|\Z)", re.DOTALL | re.MULTILINE)
_AUTHORS = re.compile(r"(?:used by )?(?P<authors>\w.*? (?:19|20)\d\d)\b")
_NAMED = re.compile(r"(?P<authors>[^,]+)(?=, https?://)")
_TITLE = re.compile(r'"(.+?)"')
_ARXIV = re.compile(r"arXiv (\d{4}\.\d{4,5})")


@dataclass(frozen=True)
class Citation:
    """One citation of a docstring.

    Attributes:
        authors: as cited, with the year: "Rafailov et al. 2023"; or a name.
        title: "" where the citation gives none.
        arxiv: number, "" where the citation gives none.
        place: where in the paper, and remarks: "eq. 7", "(smoothing)".
        symbol: full name of what cites it: "irl_jax.losses.direct.dpo".
    """

    authors: str
    title: str
    arxiv: str
    place: str
    symbol: str


def parse_citations(docstring: str, symbol: str) -> list[Citation]:
    """The citations of a docstring, in order.

    Raises:
        ValueError: a citation has neither authors and year nor an address.

    Example:
        >>> text = 'A.\\n\\nReference: Doe 2020, "Title", arXiv 2001.00001, eq. 7; Roe 1952.'
        >>> [(c.authors, c.title, c.arxiv, c.place) for c in parse_citations(text, "f")]
        [('Doe 2020', 'Title', '2001.00001', 'eq. 7'), ('Roe 1952', '', '', '')]
    """
    citations = []
    for paragraph in _PARAGRAPH.findall(docstring):
        for text in " ".join(paragraph.split()).rstrip(".").split("; "):
            match = _AUTHORS.match(text) or _NAMED.match(text)
            if match is None:
                raise ValueError(f"{symbol}: a reference needs authors and year: {text!r}")
            rest = text[match.end() :]
            title, arxiv = _TITLE.search(rest), _ARXIV.search(rest)
            place = _ARXIV.sub("", _TITLE.sub("", rest))
            citations.append(
                Citation(
                    authors=match["authors"],
                    title=title[1].rstrip(",") if title else "",
                    arxiv=arxiv[1] if arxiv else "",
                    place=re.sub(r"(,\s*)+", ", ", place).strip(", "),
                    symbol=symbol,
                )
            )
    return citations


def modules(package: str) -> Iterator[tuple[str, ast.Module]]:
    """Name and syntax tree of every module of a package that can be found."""
    spec = importlib.util.find_spec(package)
    for folder in (spec and spec.submodule_search_locations) or ():
        for path in sorted(Path(folder).rglob("*.py")):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            yield name, ast.parse(path.read_text(encoding="utf-8"))


def find_citations(name: str, tree: ast.Module) -> list[Citation]:
    """The citations of a module: its own, and those of its functions and classes."""
    citations = parse_citations(ast.get_docstring(tree) or "", name)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            citations += parse_citations(ast.get_docstring(node) or "", f"{name}.{node.name}")
    return citations


def find_uses(name: str, tree: ast.Module) -> dict[str, set[str]]:
    """What each symbol of a module uses: full names, of the module or imported.

    Example:
        >>> source = "from a.b import c\\nimport numpy\\ndef f(): return c + g\\ng = numpy.pi"
        >>> sorted(find_uses("m", ast.parse(source))["m.f"])
        ['a.b.c', 'm.g']
    """
    known: dict[str, str] = {}
    symbols: dict[str, ast.stmt] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            known |= {a.asname or a.name: f"{node.module}.{a.name}" for a in node.names}
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            symbols[statement.name] = statement
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            symbols |= {ast.unparse(target): statement for target in targets}
    known |= {symbol: f"{name}.{symbol}" for symbol in symbols}
    uses: dict[str, set[str]] = {}
    for symbol, statement in symbols.items():
        used = uses[f"{name}.{symbol}"] = set()
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and node.id in known:
                used.add(known[node.id])
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) in known:
                used.add(f"{known[ast.unparse(node.value)]}.{node.attr}")
        used.discard(f"{name}.{symbol}")
    return uses


def reach(name: str, uses: dict[str, set[str]]) -> set[str]:
    """Every symbol that the symbols of a module use, directly or through others."""
    found: set[str] = set()
    new = {symbol for symbol in uses if symbol.startswith(f"{name}.")}
    while new:
        found |= new
        new = set().union(*(uses.get(symbol, set()) for symbol in new)) - found
    return found


def papers_table(citations: Iterable[Citation], experiments: dict[str, set[str]]) -> str:
    """A Markdown table with a row a paper, oldest arXiv number first, others at the end.

    Args:
        citations: of all modules. Those that share an arXiv number, or authors and
            year where they have none, are of one paper.
        experiments: the symbols that each experiment uses, by the name of its module.

    Returns:
        The table, with a final newline.
    """
    papers: dict[str, list[Citation]] = {}
    for citation in citations:
        papers.setdefault(citation.arxiv or f"~{citation.authors}", []).append(citation)
    rows = ["| Paper | Implemented by | Used in |", "| --- | --- | --- |"]
    for key in sorted(papers):  # "~" sorts after digits
        cited = papers[key]
        title = max((c.title for c in cited), key=len)
        paper = cited[0].authors + (f", {title}" if title else "")
        paper += f", [arXiv {key}](https://arxiv.org/abs/{key})" if cited[0].arxiv else ""
        symbols = [f"`{c.symbol}`" + (f" {c.place}" if c.place else "") for c in cited]
        using = [
            f"`{name}`"
            for name, used in sorted(experiments.items())
            if any(_is_of(symbol, c.symbol) for c in cited for symbol in (name, *used))
        ]
        rows.append(f"| {paper} | {'<br>'.join(symbols)} | {'<br>'.join(using)} |")
    return "\n".join(rows) + "\n"


def _is_of(symbol: str, owner: str) -> bool:
    return symbol == owner or symbol.startswith(f"{owner}.")


def main() -> None:
    """Prints the table of this package and its experiments."""
    trees = {name: tree for package in PACKAGES for name, tree in modules(package)}
    citations = [c for name, tree in trees.items() for c in find_citations(name, tree)]
    uses: dict[str, set[str]] = {}
    for name, tree in trees.items():
        uses |= find_uses(name, tree)
    experiments = {
        name: reach(f"{name}.study", uses) | reach(name, uses)
        for name in trees
        if name.startswith("experiments.") and {f"{name}.main", f"{name}.study.main"} & set(uses)
    }
    print(papers_table(citations, experiments), end="")


if __name__ == "__main__":
    main()
