"""Rewards as functions of text: a run's reward model, a likelihood, a length.

A scorer takes prompts with responses to each, and gives each response a number. One of
your own is such a function, named in `SCORERS`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from irl_jax.data.chat import Text
from irl_jax.data.encode import EncodedGroup, Encoder
from irl_jax.data.identity import Identity
from irl_jax.data.jsonl import GroupRecord
from irl_jax.files import as_json
from irl_jax.losses.table import LOSSES, Published, look_up
from irl_jax.masking import masked_mean
from irl_jax.models.logprob import completion_logp
from irl_jax.models.reward_files import is_model_directory
from irl_jax.recipes.examples import DataConfig, limits, template_of
from irl_jax.recipes.language_model import load_language_model, load_tokenizer, model_path
from irl_jax.recipes.launch import given_model
from irl_jax.recipes.parts import Scorer, in_parts
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.recipes.published import in_log_odds as published_log_odds
from irl_jax.recipes.published import published_scorer
from irl_jax.recipes.read_config import ReadConfig
from irl_jax.recipes.reward_config import MembersConfig
from irl_jax.recipes.reward_model import aggregate, member_rewards, reward_params
from irl_jax.recipes.score_config import ScoreConfig
from irl_jax.rollout.session import LanguageModel
from irl_jax.train.inputs import identities
from irl_jax.train.objectives import lora
from irl_jax.train.progress import Progress
from irl_jax.train.run import SHA256
from irl_jax.types import InputError, Prompt, PyTree


def characters(response: Text) -> int:
    """Length of a response: the characters of its text, or of its messages."""
    if isinstance(response, str):
        return len(response)
    return sum(len(message["content"]) for message in response)


def length_scorer(model: str | None, config: ReadConfig, place: Path, progress: Progress) -> Scorer:
    """The reward of a reader who likes long responses: the number of characters."""
    del model, config, place, progress
    return lambda groups: [
        np.array([characters(c) for c in group.completions], np.float64) for group in groups
    ]


def likelihood_scorer(
    model: str | None, config: ReadConfig, place: Path, progress: Progress
) -> Scorer:
    """Mean log-prob of a response's tokens, EOS among them, under a language model (nats)."""
    language_model = load_language_model(
        required(model, "likelihood"), place, seed=0, dtype=config.dtype, progress=progress,
        tokenizer=config.tokenizer,
    )  # fmt: skip
    params = jax.tree.map(jnp.asarray, language_model.params)

    @jax.jit
    def rewards(params: PyTree, context: Prompt, action: Array, mask: Array) -> Array:
        return masked_mean(
            completion_logp(language_model.config, params, context, action), mask, axis=-1
        )

    return token_scorer(language_model, DataConfig(), config, partial(rewards, params), progress)


def learned_scorer(
    model: str | None, config: ReadConfig, place: Path, progress: Progress
) -> Scorer:
    """The reward model of a finished run, see `run_settings`, in the units of its loss.

    Of several members it is the aggregate that rewarded the run's policy. The directory of a
    reward model in Hugging Face's layout is read by `published_scorer`.
    """
    del place
    path = Path(required(model, "learned"))
    if is_model_directory(path):
        return published_scorer(path, config, progress)
    settings = run_settings(path)
    if config.label is not None:
        raise InputError(f"read.label: {path}: a run has one reward; leave it out")
    own = settings.get("tokenizer")
    language_model = load_language_model(
        settings["model"], path, seed=settings["seed"], dtype=config.dtype, progress=progress,
        tokenizer=config.tokenizer or (own and Path(own)),
    )  # fmt: skip
    base = jax.tree.map(jnp.asarray, language_model.params)
    learned = reward_params(path)
    adapt = lora(LoraConfig(**settings["lora"]).scale)
    reward = ensemble_of(settings)

    @jax.jit
    def rewards(
        learned: PyTree, base: PyTree, context: Prompt, action: Array, mask: Array
    ) -> Array:
        shape, count = language_model.config, reward.members
        each = member_rewards(
            shape, learned, base, context, action, mask, adapt=adapt, members=count
        )
        return aggregate(each, reward)

    read = {name: settings["data"][name] for name in ("max_prompt", "max_completion", "chat")}
    own = settings["data"]
    added = {name: own[name] for name in ("add_bos", "control") if name in own}
    data = DataConfig(**read, **added)
    return token_scorer(language_model, data, config, partial(rewards, learned, base), progress)


SCORERS: Mapping[str, Callable[[str | None, ReadConfig, Path, Progress], Scorer]] = {
    "learned": learned_scorer,
    "likelihood": likelihood_scorer,
    "length": length_scorer,
}
"""Name -> maker of a scorer: (model, how it reads, where a tiny model is kept, progress)."""


def in_log_odds(config: ScoreConfig) -> bool:
    """Whether a difference of two rewards is the log-odds of a preference."""
    if config.reward == "judge":
        return config.judge.asks != "rating"
    if config.reward != "learned":
        return False
    path = Path(required(config.model, config.reward))
    if is_model_directory(path):
        return published_log_odds(path)
    loss = loss_of(run_settings(path))
    return loss is not None and loss.log_odds


def required(model: str | None, reward: str) -> str:
    """The model, which there must be.

    Raises:
        InputError: there is none.
    """
    if model is None:
        what = "smollm2, a GGUF file, a Hugging Face directory or a LoRA of PEFT"
        if reward == "learned":
            what = "the directory of a run of irl-jax reward, or of a reward model"
        raise InputError(f"model: --reward {reward} needs one; give {what}")
    return model


def run_settings(path: Path) -> dict[str, Any]:
    """The configuration of a finished run that trained a reward model.

    Args:
        path: its directory; of `irl-jax reward`, `irl-jax irl` or
            `experiments.preference_to_policy`.

    Raises:
        InputError: there is no such run, it is not finished, or its reward judges steps.
    """
    if path.suffix == ".py":
        raise InputError(f"reward: {path}: name a function of the file, {path}:FUNCTION")
    if not path.is_dir():
        raise InputError(f"model: {path}: no such run directory; check the path")
    try:
        settings = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = None
    known = isinstance(settings, dict) and {"model", "lora", "data"} <= set(settings)
    if not known or not reward_of(settings):
        raise InputError(
            f"model: {path}: is no run of irl-jax reward, irl-jax irl or "
            "experiments.preference_to_policy, and no reward model's directory; give one, or "
            "--reward likelihood to score by a language model"
        )
    loss = loss_of(settings)
    if loss is not None and loss.trains == "both" and loss.reward is None:
        raise InputError(
            f"model: {path}: {settings['loss']} learns no reward model, its reward is log π/π_ref; "
            f"irl-jax score --reward likelihood --model {path / 'export'} reads log π"
        )
    if loss is not None and (loss.kind == "steps" or loss.form == "airl_token"):
        what = "steps" if loss.kind == "steps" else "tokens"
        raise InputError(
            f"model: {path}: its reward judges {what}, not whole responses; give a run of another "
            "loss"
        )
    if not (path / "summary.json").exists():
        raise InputError(
            f"model: {path}: this run is not finished; launch it again with its own flags"
        )
    return settings


def reward_of(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """How a run's reward model learned, `RewardLearning` as JSON; empty if it trained none."""
    own = settings if "ensemble" in settings else settings.get("reward")
    if isinstance(own, Mapping) and {"loss", "ensemble"} <= set(own):
        return own
    row = LOSSES.get(str(settings.get("loss")))
    if row is not None and row.trains == "both":
        return {"loss": settings["loss"], "ensemble": as_json(MembersConfig())}
    return {}


def loss_of(settings: Mapping[str, Any]) -> Published | None:
    """The row of the loss that a run's reward model learned by; None of a function of one's own."""
    name = reward_of(settings)["loss"]
    return None if ":" in name else look_up(name)


def ensemble_of(settings: Mapping[str, Any]) -> MembersConfig:
    """How the members of a run's reward model come to one reward."""
    return MembersConfig(**reward_of(settings)["ensemble"])


def identity(model: str | None, reward: str) -> dict[str, str]:
    """What a reward is made of, told by content: {"model": SHA-256}; of a length, nothing.

    Raises:
        InputError: there is no such model or run, or the model that a run was trained on is
            another one now.
    """
    if reward == "length":
        return {}
    if reward != "learned":
        return identities({"model": given_model(required(model, reward))})
    path = Path(required(model, reward))
    if is_model_directory(path):
        return identities({"model": path})
    settings = run_settings(path)
    members = vars(ensemble_of(settings))
    whole = hashlib.sha256(json.dumps([settings["lora"], members]).encode())
    whole.update(_base(path, settings).encode())
    for name, leaf in jax.tree.leaves_with_path(reward_params(path)):
        whole.update(f"{jax.tree_util.keystr(name)} {leaf.dtype} {leaf.shape}".encode())
        whole.update(np.ascontiguousarray(leaf))
    return {"model": whole.hexdigest()}


def _base(run: Path, settings: Mapping[str, Any]) -> str:
    """The digests of the model and the tokenizer that a run had, which lie there still."""
    places = {
        "model": model_path(settings["model"], run, settings["seed"]),
        "tokenizer": settings.get("tokenizer"),
    }
    if SHA256 not in settings:
        raise InputError(
            f"model: {run}: this run does not say by content which model it was trained on, an "
            "older version began it; launch its command again in another run directory"
        )
    found = identities(places)
    for flag, now in found.items():
        before = settings[SHA256].get(flag, now)  # the tiny model belongs to its run
        if before != now:
            raise InputError(
                f"{flag}: {places[flag]} is another one than {run} was trained on ({SHA256}.{flag} "
                f"was {before[:12]}..., is {now[:12]}...); restore it, or train a reward on it"
            )
    return json.dumps(found, sort_keys=True)


def run_identity(path: Path, settings: Mapping[str, Any]) -> Identity:
    """Which prompts were one to the model of a run.

    Args:
        path: directory of the run.
        settings: those of the run.

    Raises:
        InputError: its model has gone.
    """
    own = settings.get("tokenizer")
    place = Path(own) if own else model_path(settings["model"], path, settings["seed"])
    tokenizer = load_tokenizer(place)
    return Identity.of(tokenizer, template_of(settings["data"]["chat"], tokenizer))


def token_scorer(
    model: LanguageModel,
    data: DataConfig,
    config: ReadConfig,
    rewards: Callable[[Prompt, ArrayLike, ArrayLike], Array],
    progress: Progress,
) -> Scorer:
    """A scorer that reads tokens.

    Args:
        model: whose tokens and template they are.
        data: how its prompts and responses were encoded when it was trained.
        config: what the user wants otherwise.
        rewards: `Prompt` of B rows, i32[B, K, T], bool[B, K, T] -> f32[B, K].
        progress: shows the scoring.

    Raises:
        InputError: limits beyond the model's context.
    """
    wanted = ("max_prompt", "max_completion", "chat")
    given = {name: getattr(config, name) for name in wanted if getattr(config, name) is not None}
    data = replace(data, **given)
    try:
        max_prompt, max_completion = limits(data, model.config.max_positions)
    except InputError as error:
        raise InputError(str(error).replace("data.", "read.")) from error
    template = template_of(data.chat, model.tokenizer)
    encoder = Encoder(
        model.tokenizer,
        max_prompt,
        max_completion,
        template=template,
        add_bos=data.add_bos,
        overlong=config.overlong,
        control=data.control,
    )

    def encode(groups: Sequence[GroupRecord]) -> list[EncodedGroup]:
        messages = [group.source for group in groups if not isinstance(group.prompt, str)]
        if template is None and messages:
            raise InputError(
                f"{messages[0]}: holds messages, but the model has no chat template; "
                "give one that has, or --read.chat dialogue"
            )
        return encoder.groups(groups)

    return in_parts(
        encode,
        rewards,
        pad_id=model.tokenizer.pad_id,
        batch_size=config.batch_size,
        progress=progress,
    )
