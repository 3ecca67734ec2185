"""Model cards: what a model was made from, by which command, and what was measured of it."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

import irl_jax
from irl_jax.eval.intervals import Interval
from irl_jax.files import as_json
from irl_jax.recipes.quality import LABELS
from irl_jax.recipes.settings import as_flags
from irl_jax.report.values import show
from irl_jax.train.run import SHA256

Rows = Sequence[tuple[str, Any]]

BESIDE = "load the base model, then this directory by `PeftModel.from_pretrained` of peft"
"""How an adapter is loaded."""

PLACES = ("run_dir", "track", "mesh")
"""Settings that say where a run was, and nothing of what it did."""


def reward_card(
    config: Any,
    default: Any,
    settings: Mapping[str, Any],
    found: Mapping[str, Any],
    bias: float,
    pads: bool,
) -> str:
    """The model card of a reward model that `irl-jax reward` trained, Markdown.

    Args:
        config: of the run.
        default: the same without any flag.
        settings: of the run, as its config.json has them.
        found: what the summary holds of the reward.
        bias: of the head, which is not in the weights.
        pads: whether the tokenizer has a token to pad with.
    """
    ensemble = config.ensemble
    notes = [
        "A score is read at the last token that is no padding, the EOS with which the chat "
        "template ends a conversation (without a template: prompt, response, EOS).",
        f"The head was trained with a bias of {bias:.6g}, for which transformers has no place: "
        "`irl-jax score` adds it, scores by transformers are without it. It changes no comparison.",
    ]
    if not pads:
        notes.append("The tokenizer has no token to pad with: score one conversation at a time.")
    if ensemble.members > 1:
        notes.append(
            f"One of {ensemble.members} members, of which the run made one reward "
            f"({ensemble.aggregate}); measures are of that one."
        )
    loads = "load it with `AutoModelForSequenceClassification` of transformers"
    if config.export == "adapter":
        loads = f"a LoRA and a head: {BESIDE}"
    return _card(
        config,
        "text-classification",
        f"A reward model by {config.loss}",
        f"A score of responses; {loads}, or give its directory to `irl-jax score --model`.",
        made_from(config, settings, found),
        [*reward_measures(found)],
        notes,
        command("reward", config, default),
    )


def policy_card(
    name: str, config: Any, default: Any, settings: Mapping[str, Any], found: Mapping[str, Any]
) -> str:
    """The model card of a policy, Markdown.

    Args:
        name: of the command that trained it.
        config: of the run.
        default: the same without any flag.
        settings: of the run, as its config.json has them.
        found: what the summary holds of the policy.
    """
    rows = [(k.replace("_", " "), v) for k, v in found.items() if isinstance(v, Interval)]
    loads = "A language model; load it with `AutoModelForCausalLM` of transformers."
    if config.export == "adapter":
        loads = f"A LoRA of a language model; {BESIDE}."
    return _card(
        config,
        "text-generation",
        f"A policy by {config.loss}",
        loads,
        made_from(config, settings, found),
        [*held_out_losses(found), *rows],
        [],
        command(name, config, default) if "loss" in settings else None,
    )


def made_from(config: Any, settings: Mapping[str, Any], found: Mapping[str, Any]) -> Rows:
    """Data, model and loss."""
    digests = settings.get(SHA256, {})
    rows = [
        ("data", Path(config.data.path).name if config.data.path else None),
        ("SHA-256 of the data", digests.get("data.path")),
        (f"{found['kind']} learned from", found["examples"]),
        (f"{found['kind']} held out", found["held_out_examples"]),
        ("base model", Path(config.model).name),
        ("SHA-256 of the base model", digests.get("model")),
        ("loss", config.loss),
        ("updates", found["updates"]),
    ]
    return [(name, value) for name, value in rows if value is not None]


def held_out_losses(found: Mapping[str, Any]) -> Rows:
    """The loss on held-out examples, where it was measured."""
    losses = found.get("held_out") or {}
    return [(f"loss on held-out examples, {at}", losses[at]["loss"]) for at in losses]


def reward_measures(found: Mapping[str, Any]) -> Rows:
    """What was measured of a reward on held-out examples."""
    rows = [(LABELS[name].strip(), value) for name, value in found["quality"].items()]
    audit = found["audit"] or {}
    if audit.get("calibration"):
        rows.append(("expected calibration error", audit["calibration"]))
    if length := audit.get("length"):
        rows += [
            ("correlation of reward and length within prompts", length.correlation),
            ("longer side has the higher reward", length.prefers_longer),
            ("longer side was chosen", length.chosen_longer),
        ]
    return [*held_out_losses(found), *rows]


def command(name: str, config: Any, default: Any) -> str:
    """The command line of a run: every setting that is not the default, but for its place."""
    changed = difference(as_json(config), as_json(default))
    flags = as_flags({k: v for k, v in changed.items() if k not in PLACES}, config)
    return shlex.join(["irl-jax", name, *flags])


def difference(settings: Mapping[str, Any], default: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings that are not those of another configuration.

    Example:
        >>> difference({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 0, "d": 3}})
        {'b': {'c': 2}}
    """
    changed: dict[str, Any] = {}
    for name, value in settings.items():
        other = (default or {}).get(name)
        if isinstance(value, dict):
            if inner := difference(value, other):
                changed[name] = inner
        elif value != other:
            changed[name] = value
    return changed


def _card(
    config: Any, task: str, title: str, says: str, made: Rows, measured: Rows, notes: Sequence[str],
    line: str | None,
) -> str:  # fmt: skip
    """The Markdown of a card."""
    library = "peft" if config.export == "adapter" else "transformers"
    head = f"---\nlibrary_name: {library}\npipeline_tag: {task}\ntags:\n- irl_jax\n---"
    versions = [
        ("irl_jax", irl_jax.__version__),
        ("jax", jax.__version__),
        ("Python", platform.python_version()),
    ]
    parts = [head, f"# {title}", says, "## Made from", _table(made)]
    if measured:
        held_out = "Of held-out examples, with 95 % intervals over prompts."
        parts += ["## Measured", held_out, _table(measured)]
    if notes:
        parts += ["## To know", "\n".join(f"- {note}" for note in notes)]
    if line is not None:
        parts += ["## Command", f"```sh\n{line}\n```"]
    parts += [
        "## Versions",
        _table(versions),
        "## Licence",
        "None is given: it depends on those of the data and of the base model.",
    ]
    return "\n\n".join(parts) + "\n"


def _table(rows: Rows) -> str:
    lines = [f"| {name} | {show(value)} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *lines])
