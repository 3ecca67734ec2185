"""One package per question: claim, command, runtime; `expected.md` beside it has the figures."""
