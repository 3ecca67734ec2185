"""The commands of `irl-jax`: which settings each begins with, and what it runs."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from irl_jax.losses.table import LOSSES, Published, canonical
from irl_jax.recipes import align as align_recipe
from irl_jax.recipes import irl as irl_recipe
from irl_jax.recipes import reward as reward_recipe
from irl_jax.recipes import sample as sample_recipe
from irl_jax.recipes import score as score_recipe
from irl_jax.recipes.align_config import AlignConfig, PolicyBasics
from irl_jax.recipes.cli import parse
from irl_jax.recipes.irl_config import IrlBasics, IrlConfig
from irl_jax.recipes.options import find_loss, with_options
from irl_jax.recipes.reward_config import RewardConfig
from irl_jax.recipes.run_config import Basics
from irl_jax.recipes.sample import CONFIG as SAMPLE
from irl_jax.recipes.score_config import CONFIG as SCORE
from irl_jax.recipes.settings import as_flags, read_settings
from irl_jax.recipes.training import COMMANDS
from irl_jax.report import papers as papers_table
from irl_jax.report.values import show
from irl_jax.types import InputError

SFT = """A policy by supervised fine-tuning on demonstrations: `irl-jax align --loss sft`.

Lines of `--data.path` hold `messages`, or `prompt` and `completion`; the assistant's turns are
learned.

Examples:
    irl-jax sft --data.path demonstrations.jsonl --model DIR
"""

ABOUT_LOSSES = """Losses of `irl-jax align`, `irl-jax reward` and `irl-jax irl`.

`irl-jax losses NAME` explains one, `irl-jax losses WORD` lists those that it tells of.
Hyper-parameters are flags, --loss.NAME; their defaults are values to start from."""


def align(args: Sequence[str]) -> None:
    """`irl-jax align`."""
    _run("align", align_recipe.main, AlignConfig(), PolicyBasics, args, align_recipe.__doc__)


def sft(args: Sequence[str]) -> None:
    """`irl-jax sft`."""
    _run("sft", align_recipe.main, AlignConfig(loss="sft"), PolicyBasics, args, SFT)


def reward(args: Sequence[str]) -> None:
    """`irl-jax reward`."""
    _run("reward", reward_recipe.main, RewardConfig(), Basics, args, reward_recipe.__doc__)


def irl(args: Sequence[str]) -> None:
    """`irl-jax irl`."""
    _run("irl", irl_recipe.main, IrlConfig(), IrlBasics, args, irl_recipe.__doc__)


def score(args: Sequence[str]) -> None:
    """`irl-jax score`."""
    score_recipe.main(parse(SCORE, args, description=score_recipe.__doc__, prog="irl-jax score"))


def sample(args: Sequence[str]) -> None:
    """`irl-jax sample`."""
    sample_recipe.main(
        parse(SAMPLE, args, description=sample_recipe.__doc__, prog="irl-jax sample")
    )


def losses(args: Sequence[str]) -> None:
    """`irl-jax losses`: the table, or what the docstring of a loss says."""
    parser = argparse.ArgumentParser("irl-jax losses", description=ABOUT_LOSSES)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a loss, or a word of its text")
    names = parser.parse_args(args).names
    for name in names:
        if some := _about(name):
            _list_losses(some)
            continue
        row = find_loss(name)
        told = inspect.getdoc(row.loss if row.reward is None else row.reward)
        print(f"{name}: {told}\n\nhyper-parameters: {_options(row)}")
    if not names:
        print(f"{ABOUT_LOSSES}\n")
        _list_losses(LOSSES)


def _about(word: str) -> dict[str, Published]:
    """The losses whose text holds a word; none for the name of a loss, which is explained."""
    try:
        canonical(word)
    except InputError:
        about = lambda row: row.reward or row.loss
        text = lambda row: f"{about(row).__module__} {inspect.getdoc(about(row))}".lower()
        return {name: row for name, row in LOSSES.items() if word.lower() in text(row)}
    return {}


def _list_losses(rows: Mapping[str, Published]) -> None:
    for trains, command in COMMANDS.items():
        own = {name: row for name, row in rows.items() if row.trains == trains}
        if own:
            print(f"irl-jax {command}")
        for name, row in own.items():
            judge = "a teacher" if row.taught else "a reward"
            learns = f"samples, {judge}" if row.kind == "prompts" else row.kind
            alias = f" (TRL: {row.trl})" if row.trl else ""
            print(f"  {name:22} {learns:18} {_options(row)}{alias}".rstrip())
        if own:
            print()


def papers(args: Sequence[str]) -> None:
    """`irl-jax papers`."""
    about = "Papers, what implements them and, in a checkout, the experiments that use it."
    argparse.ArgumentParser("irl-jax papers", description=about).parse_args(args)
    papers_table.main()


def _options(row: Published) -> str:
    return ", ".join(f"{name} {show(value)}" for name, value in row.defaults.items())


def _run(
    name: str,
    main: Callable[[Any], None],
    config: Any,
    brief: type,
    args: Sequence[str],
    about: str | None,
) -> None:
    """Runs a command whose settings depend on its loss."""
    args = list(args)
    file = last_value(args, "config")
    settings = {} if file is None else read_settings(Path(file))
    given = last_value(args, "loss")
    loss = settings.get("loss", config.loss) if given is None else given
    row = find_loss(loss)
    config = with_options(replace(config, loss=loss), row)
    if loss != settings.get("loss", loss):
        settings.pop("options", None)  # they are those of another loss
    flags = as_flags({k: v for k, v in settings.items() if k != "loss"}, config)
    parsed = parse(
        config,
        [*flags, *without(args, "config")],
        description=f"{about}\n--config FILE takes settings from a file: JSON, TOML, YAML.",
        prog=f"irl-jax {name}",
        brief=brief,
    )
    main(parsed)


def last_value(args: Sequence[str], name: str) -> str | None:
    """The value of a flag; of one given twice, the last; None if it is not there.

    Example:
        >>> last_value(["--loss", "dpo", "--loss=ipo"], "loss")
        'ipo'
    """
    found = None
    for i, arg in enumerate(args):
        if arg == f"--{name}" and i + 1 < len(args):
            found = args[i + 1]
        elif arg.startswith(f"--{name}="):
            found = arg.partition("=")[2]
    return found


def without(args: Sequence[str], name: str) -> list[str]:
    """The arguments but for a flag and its value.

    Example:
        >>> without(["--lr", "1", "--config", "a.json"], "config")
        ['--lr', '1']
    """
    kept, skip = [], False
    for arg in args:
        if skip or arg.startswith(f"--{name}="):
            skip = False
        elif arg == f"--{name}":
            skip = True
        else:
            kept.append(arg)
    return kept
