"""The reward that `--reward` names: a user's function of texts, or a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jax import Array

from irl_jax.data.encode import EncodedPrompt
from irl_jax.models.reward_files import is_model_directory
from irl_jax.recipes.examples import DataConfig
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.options import digest, load_function
from irl_jax.recipes.policy_training import LoraConfig, Training
from irl_jax.recipes.published import published_reward
from irl_jax.recipes.reward_model import RewardModel, reward_params
from irl_jax.recipes.scorers import ensemble_of, identity, run_settings
from irl_jax.recipes.text_rewards import PromptReader, TextReward
from irl_jax.rollout.session import Session
from irl_jax.train.progress import Progress
from irl_jax.types import Group, InputError, LoopContext, Rewarded


class RunReward(Protocol):
    """A reward of sampled completions, in training and for measuring."""

    def reward(self, group: Group, context: LoopContext) -> Array | Rewarded:
        """The reward f32[B, K], for `train.online.train_online`."""

    def measure(self, group: Group, texts: list[list[str]]) -> dict[str, np.ndarray]:
        """{"reward": f64[B, K], ...}, for `Session.respond`."""


def reward_identity(name: str) -> str:
    """What a reward is, told by content: SHA-256.

    Raises:
        InputError: there is no such function or run.
    """
    if ":" in name:
        return digest(name, "reward")
    return identity(name, "learned")["model"]


def load_reward(
    name: str,
    session: Session,
    prompts: Sequence[EncodedPrompt],
    data: DataConfig,
    progress: Progress,
) -> RunReward:
    """A reward of completions that a session samples.

    Args:
        name: MODULE:FUNCTION or FILE.py:FUNCTION, written as `TextReward` says; or the
            directory of a finished run that trained a reward model, or of a published one.
        session: samples the completions.
        prompts: every prompt that may be answered.
        data: how the prompts are encoded.
        progress: shows how long a tiny model takes to make.

    Raises:
        InputError: there is no such function or run, or the reward model reads other tokens
            or another template than the policy writes.
    """
    if ":" in name:
        return TextReward(name, load_function(name, "reward"), PromptReader(session, prompts))
    if is_model_directory(name):
        reader = PromptReader(session, prompts)
        return published_reward(Path(name), reader, session.model.config.dtype)
    return load_reward_model(Path(name), session, data, progress)


def load_reward_model(
    run: Path, session: Session, data: DataConfig, progress: Progress
) -> RewardModel:
    """The reward model of a finished run, on the mesh of a session.

    Args:
        run: directory of `irl-jax reward` or of `experiments.preference_to_policy`.
        session: whose completions are rewarded.
        data: how their prompts are encoded.
        progress: shows how long a tiny model takes to make.

    Raises:
        InputError: as `load_reward`.
    """
    settings = run_settings(run)
    own = settings.get("tokenizer")
    model = load_language_model(
        settings["model"], run, seed=settings["seed"], dtype=settings["dtype"], progress=progress,
        tokenizer=own and Path(own), mesh=session.mesh,
    )  # fmt: skip
    check_tokens(run, settings, model.tokenizer, session.model.tokenizer, data)
    base = Session.create(
        model,
        session.mesh,
        prompt_width=session.prompt_width,
        max_new_tokens=session.max_new_tokens,
        sampling=session.sampling,
    )
    training = Training(base, LoraConfig(**settings["lora"]), seed=settings["seed"])
    params = reward_params(run)
    return RewardModel(training, ensemble_of(settings), params)


def check_tokens(
    run: Path, settings: dict[str, Any], reward: Any, policy: Any, data: DataConfig
) -> None:
    """Raises `InputError` where a reward model would read what a policy writes as something else.

    Args:
        run: directory of the reward model.
        settings: those of its run.
        reward: its tokenizer.
        policy: the policy's tokenizer.
        data: how the policy's prompts are encoded.
    """
    if not same_tokens(reward, policy):
        raise InputError(
            f"reward: {run}: its model has other tokens than the policy; train a reward on a model "
            "with the policy's tokenizer, or give a FILE.py:FUNCTION that reads texts"
        )
    if settings["data"]["chat"] != data.chat:
        raise InputError(
            f"reward: {run}: was trained with --data.chat {settings['data']['chat']}, the policy "
            f"has --data.chat {data.chat}; give both the same"
        )


def same_tokens(one: Any, other: Any) -> bool:
    """Whether two tokenizers have the same tokens by the same ids."""
    return one.vocab_size == other.vocab_size and all(
        one.backend.id_to_token(i) == other.backend.id_to_token(i) for i in range(one.vocab_size)
    )
