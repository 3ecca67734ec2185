"""The command `irl-jax`, which is also `python -m irl_jax`."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {  # name -> (module, what it does)
    "reward": ("commands", "fit a reward model to pairs, ratings, rankings or steps"),
    "align": ("commands", "train a policy by any published loss, or by your own"),
    "irl": ("commands", "learn a reward from demonstrations, and a policy for it, by turns"),
    "sft": ("commands", "fine-tune a model on demonstrations"),
    "score": ("commands", "say how far a reward can be trusted"),
    "sample": ("commands", "print what a model answers"),
    "compare": ("compare", "show runs side by side: metrics, results, settings that differ"),
    "losses": ("commands", "list the losses and their hyper-parameters"),
    "papers": ("commands", "list papers and what implements them"),
}
USAGE = """usage: irl-jax COMMAND [--flags]

{commands}

irl-jax COMMAND --help explains a command. A run writes RUN/report.html, and goes on where it
stopped when the same command is given again.
"""


def main(args: Sequence[str] | None = None) -> None:
    """Runs a command.

    Args:
        args: the command line; `sys.argv[1:]` if None.

    Raises:
        SystemExit: 2 on a mistake of the user; see `recipes.cli.exiting`.
    """
    given = sys.argv[1:] if args is None else list(args)
    if not given or given[0] in ("-h", "--help", "help"):
        lines = [f"  {name:9} {about}" for name, (_, about) in COMMANDS.items()]
        print(USAGE.format(commands="\n".join(lines)), end="")
        raise SystemExit(0 if given else 2)
    name = given[0]
    if name == "--version":
        from irl_jax import __version__

        print(__version__)
        return
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean {close[0]}?" if close else "irl-jax --help lists them"
        print(f"error: there is no command {name}; {hint}", file=sys.stderr)
        raise SystemExit(2)
    from irl_jax.recipes.cli import exiting
    from irl_jax.recipes.distributed import begin

    with exiting():
        given = begin(given)
        module = importlib.import_module(f"irl_jax.recipes.{COMMANDS[name][0]}")
        getattr(module, name)(given[1:])


if __name__ == "__main__":
    main()
