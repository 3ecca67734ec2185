"""One module per question: claim, command, runtime, expected numbers."""
