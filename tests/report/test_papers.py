import ast

import pytest

from irl_jax.report.papers import (
    Citation,
    find_citations,
    find_uses,
    papers_table,
    parse_citations,
    reach,
)

DOCSTRING = """One line.

Reference: Doe et al. 2020, "A Title: with a colon", arXiv 2001.00001, eq. 7 and 8
(smoothing); van der Roe & Poe 1952, "Old, but gold"; used by Moe 2021,
arXiv 2101.12345. Differs: in 1999 ways; all small.

Reference: A format, https://example.org/a.md.
"""


def test_citations():
    assert parse_citations(DOCSTRING, "f") == [
        Citation(
            "Doe et al. 2020", "A Title: with a colon", "2001.00001", "eq. 7 and 8 (smoothing)", "f"
        ),
        Citation("van der Roe & Poe 1952", "Old, but gold", "", "", "f"),
        Citation("Moe 2021", "", "2101.12345", "", "f"),
        Citation("A format", "", "", "https://example.org/a.md", "f"),
    ]


def test_a_docstring_without_references_cites_nothing():
    assert parse_citations("A reference model (Doe 2020).\n\nReferences: none.", "f") == []


def test_a_citation_without_a_year_is_refused():
    with pytest.raises(ValueError, match="f: a reference needs authors and year: 'Doe'"):
        parse_citations("Reference: Doe.", "f")


SOURCE = '''"""Module.

Reference: Doe 2020, arXiv 2001.00001.
"""
from a.b import c as d
from a import module

class Thing:
    """A thing.

    Reference: Roe 1952.
    """

    def method(self):
        return d + module.part

def function(x):
    return Thing()

CONSTANT = {"k": function}
unused: int = 3
'''


def test_citations_of_a_module_and_of_what_is_in_it():
    symbols = [(c.authors, c.symbol) for c in find_citations("m", ast.parse(SOURCE))]
    assert symbols == [("Doe 2020", "m"), ("Roe 1952", "m.Thing")]


def test_uses():
    assert find_uses("m", ast.parse(SOURCE)) == {
        "m.Thing": {"a.b.c", "a.module", "a.module.part"},
        "m.function": {"m.Thing"},
        "m.CONSTANT": {"m.function"},
        "m.unused": set(),
    }


def test_reach_goes_through_others_and_round_circles():
    uses = {"x.main": {"m.f"}, "m.f": {"m.g"}, "m.g": {"m.f", "n.h"}, "m.other": {"n.k"}}
    assert reach("x", uses) == {"x.main", "m.f", "m.g", "n.h"}


def test_table():
    citations = [
        Citation("Roe 1952", "", "", "", "p.old"),
        Citation("Doe 2021", "", "2101.00001", "eq. 2", "p.new.f"),
        Citation("Doe 2020", "", "2001.00001", "", "p.other.g"),
        Citation("Doe 2021", "Title", "2101.00001", "", "p.h"),
    ]
    experiments = {"e.two": {"p.h"}, "e.one": {"p.old.part", "p.new.f2"}}
    assert papers_table(citations, experiments).splitlines() == [
        "| Paper | Implemented by | Used in |",
        "| --- | --- | --- |",
        "| Doe 2020, [arXiv 2001.00001](https://arxiv.org/abs/2001.00001) | `p.other.g` |  |",
        "| Doe 2021, Title, [arXiv 2101.00001](https://arxiv.org/abs/2101.00001) "
        "| `p.new.f` eq. 2<br>`p.h` | `e.two` |",
        "| Roe 1952 | `p.old` | `e.one` |",
    ]
