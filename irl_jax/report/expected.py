"""What experiments found: `expected.md` beside each, and the table that a README makes of them.

    python -m irl_jax.report.expected              # prints the table
    python -m irl_jax.report.expected README.md    # writes it into that file

An `expected.md` holds figures that somebody measured, so that a reader can check a run of
their own against them:

    # Title

    **Question:** What was asked?

    **Answer:** What was found, in a sentence or two.

    ## Runs

    | run | command | repeats | processor | intervals |
    |---|---|---|---|---|
    | first | `python -m experiments.name` | 8 seeds | 2 cores | 95 %, bootstrap over seeds |

    ## What the numbers are

    | method | accuracy | p |
    |---|---|---|
    | DPO | 0.651 [0.639, 0.664] | 0.02 |

The table of runs comes first. Where it has several rows, every other table says which run its
figures are of: in a column `run`, or by the name of a run in the heads of its columns. A dash,
`–`, stands where nothing was measured.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from irl_jax.files import read_text, write_atomic
from irl_jax.types import InputError

FILE = "expected.md"
RUNS = ("run", "command", "repeats", "processor", "intervals")
HEADS = ("module", "question", "answer")

_NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?"
_INTERVAL = re.compile(rf"({_NUMBER})(?: %)? [\[(]({_NUMBER})(?:, | to )({_NUMBER})[\])]")


@dataclass(frozen=True)
class Table:
    """A Markdown table.

    Attributes:
        line: of its heads in the file, from 1.
        heads: one text a column.
        rows: as many texts as heads, each row.
    """

    line: int
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, head: str) -> list[str]:
        """The texts under a head."""
        at = self.heads.index(head)
        return [row[at] for row in self.rows]


@dataclass(frozen=True)
class Expected:
    """What an `expected.md` says.

    Attributes:
        title: its heading.
        question: what was asked.
        answer: what was found.
        runs: what was run to measure it; its heads begin with `RUNS`.
        figures: the other tables.
    """

    title: str
    question: str
    answer: str
    runs: Table
    figures: tuple[Table, ...]


def parse_tables(text: str) -> list[Table]:
    """The tables of a Markdown document, in order.

    Raises:
        ValueError: a table has no rule under its heads or no rows, or a row has more or fewer
            cells than there are heads, or an empty one.

    Example:
        >>> parse_tables("| a | b |\\n|---|---|\\n| 1 | 2 |")[0].rows
        (('1', '2'),)
    """
    blocks: list[list[tuple[int, tuple[str, ...]]]] = []
    last = -1
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("|"):
            cells = tuple(cell.strip() for cell in line.strip().strip("|").split("|"))
            if number != last + 1:
                blocks.append([])
            blocks[-1].append((number, cells))
            last = number
    tables = []
    for (number, heads), *rest in blocks:
        if len(rest) < 2 or any(not re.fullmatch(":?-+:?", cell) for cell in rest[0][1]):
            raise ValueError(f"line {number}: a table has heads, a rule of dashes, and rows")
        for at, cells in [(number, heads), *rest]:
            if len(cells) != len(heads):
                raise ValueError(f"line {at}: {len(cells)} cells under {len(heads)} heads")
            if not all(cells):
                raise ValueError(f"line {at}: an empty cell; write – where nothing was measured")
        tables.append(Table(number, heads, tuple(cells for _, cells in rest[1:])))
    return tables


def intervals(cell: str) -> list[tuple[float, float, float]]:
    """Every `value [low, high]` and `value (low to high)` of a cell.

    Raises:
        ValueError: a bracket is no such interval, or the value lies outside its interval.

    Example:
        >>> intervals("0.651 [0.639, 0.664]")
        [(0.651, 0.639, 0.664)]
    """
    found = []
    for match in _INTERVAL.finditer(cell):
        value, low, high = (float(x.replace(",", "")) for x in match.groups())
        if not low <= value <= high:
            raise ValueError(f"{match[0]}: the value lies outside its interval")
        found.append((value, low, high))
    if "[" in _INTERVAL.sub("", cell):
        raise ValueError(f"{cell}: expected an interval as in 0.651 [0.639, 0.664]")
    return found


def parse_expected(text: str) -> Expected:
    """What an `expected.md` says.

    Raises:
        ValueError: something is missing or malformed; the message names it and its line.
    """
    title = re.match(r"# (.+)\n", text)
    if title is None:
        raise ValueError("line 1: no title, # …")
    question, answer = (_paragraph(text, name) for name in ("Question", "Answer"))
    if not question.endswith("?"):
        raise ValueError(f"a question ends in ?, got {question}")
    tables = parse_tables(text)
    if len(tables) < 2 or tables[0].heads[: len(RUNS)] != RUNS:
        raise ValueError(f"expected a table with the heads {', '.join(RUNS)}, and one of figures")
    runs, figures = tables[0], tuple(tables[1:])
    for table in figures:
        _check_figures(table, runs.column("run"))
    return Expected(title[1], question, answer, runs, figures)


def _paragraph(text: str, name: str) -> str:
    """The text of the one paragraph that begins with **NAME:**, on one line."""
    found = re.findall(rf"^\*\*{name}:\*\* (.+?)\n\n", text, re.MULTILINE | re.DOTALL)
    if len(found) != 1:
        raise ValueError(f"expected one paragraph **{name}:** …, got {len(found)}")
    return " ".join(found[0].split())


def _check_figures(table: Table, runs: list[str]) -> None:
    """Raises ValueError where a table says no run, or a cell is malformed."""
    if "run" in table.heads:
        if unknown := set(table.column("run")) - set(runs):
            raise ValueError(f"line {table.line}: no run {', '.join(sorted(unknown))}")
    elif len(runs) > 1 and not any(run in head for run in runs for head in table.heads):
        raise ValueError(f"line {table.line}: which run is it? Add a column run, or name it above")
    for number, row in enumerate(table.rows, table.line + 2):
        if not any(re.search(r"\d", cell) for cell in row[1:]):
            raise ValueError(f"line {number}: no figure")
        for head, cell in zip(table.heads, row, strict=True):
            try:
                _check_cell(head, cell)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None


def _check_cell(head: str, cell: str) -> None:
    """Raises ValueError for a malformed interval, or a p that is no probability."""
    intervals(cell)
    if head.split(",")[0] != "p" or cell == "–":
        return
    if not re.fullmatch(_NUMBER, cell) or not 0 <= float(cell) <= 1:
        raise ValueError(f"p is a number from 0 to 1, got {cell}")


def read_all(package: Path) -> dict[str, Expected]:
    """Module -> what its `expected.md` says, for the packages in a package's folder.

    Raises:
        InputError: a file is malformed.
    """
    found = {}
    for path in sorted(package.glob(f"*/{FILE}")):
        try:
            found[f"{package.name}.{path.parent.name}"] = parse_expected(path.read_text("utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: {error}") from None
    return found


def experiments_table(found: Mapping[str, Expected]) -> str:
    """A Markdown table with a row for each experiment, in their order, with a final newline."""
    rows = [HEADS, ("---",) * len(HEADS)]
    for name, expected in found.items():
        link = f"[`{name}`]({name.replace('.', '/')}/{FILE})"
        rows.append((link, expected.question, expected.answer))
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def with_table(readme: str, found: Mapping[str, Expected]) -> str:
    """The text of a README with its table of experiments made anew.

    Experiments stay in the order in which the README has them; new ones come last.

    Raises:
        ValueError: the README has no such table.
    """
    heads = re.escape(f"| {' | '.join(HEADS)} |")
    old = re.search(rf"^{heads}\n(?:\|.*\n)*", readme, re.MULTILINE)
    if old is None:
        raise ValueError(f"no table with the heads {', '.join(HEADS)}")
    listed = re.findall(r"^\| \[`([\w.]+)`\]", old[0], re.MULTILINE)
    order = sorted(found, key=lambda name: listed.index(name) if name in listed else len(listed))
    table = experiments_table({name: found[name] for name in order})
    return readme[: old.start()] + table + readme[old.end() :]


def write_table(readme: Path) -> None:
    """Makes the table in a README anew, of the folder `experiments` beside it.

    Raises:
        InputError: an `expected.md` is malformed, or the README has no such table.
    """
    found = read_all(readme.parent / "experiments")
    try:
        text = with_table(read_text(readme), found)
    except ValueError as error:
        raise InputError(f"{readme}: {error}") from None
    write_atomic(readme, text.encode())


if __name__ == "__main__":
    if len(sys.argv) > 1:
        write_table(Path(sys.argv[1]))
    else:
        print(experiments_table(read_all(Path("experiments"))), end="")
