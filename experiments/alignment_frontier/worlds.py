"""Worlds of a language model: its completions of prompts, comparisons of them, a proxy.

See `experiments.alignment_frontier.language`, where policies are trained in them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from experiments.sandbox.runs import Training
from irl_jax.data.encode import EncodedPrompt
from irl_jax.eval.annotator import annotate, logistic_annotator
from irl_jax.masking import check_range
from irl_jax.recipes.language_model import MeshConfig
from irl_jax.recipes.policy_training import LoraConfig
from irl_jax.rewards.embedding import EmbeddingReward, EnsembleConfig, fit_ensemble
from irl_jax.rewards.vader import valence
from irl_jax.rollout.session import Completions, Measure, Session
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError, Preference, Prompt


@dataclass(frozen=True)
class LanguageConfig:
    """What a language model is asked, and how its policies are trained and measured."""

    tokenizer: Path | None = None  # directory of another tokenizer; None: the model's own
    dtype: str = "float32"  # compute dtype: float32 or bfloat16
    prompts: int = 16  # prompts whose completions are compared, and on which policies act
    held_out: int = 8  # prompts on which everything is measured
    completions: int = 8  # completions of a prompt, for comparisons and for a measurement
    max_new_tokens: int = 16  # tokens of a completion, at most
    pairs_per_prompt: int = 16  # comparisons of each prompt's completions, at most
    best_of: int = 32  # completions to choose from; a multiple of `completions`
    feature_layers: int = 15  # layers of the model that the proxy's features come from
    reward: EnsembleConfig = field(default_factory=EnsembleConfig)
    strengths: int = 1  # of each method's, from its first on
    training: Training = field(
        default_factory=lambda: Training(
            updates=8, every=4, pairs=8, prompts=4, completions=4, lr=1e-3
        )
    )
    lora: LoraConfig = field(default_factory=lambda: LoraConfig(rank=8, alpha=16.0))
    mesh: MeshConfig = field(default_factory=MeshConfig)

    def __post_init__(self) -> None:
        check_range("language.strengths", self.strengths, 1)
        check_range("language.pairs_per_prompt", self.pairs_per_prompt, 1)
        if self.completions < 2 or self.best_of % self.completions:
            raise InputError(
                f"language.best_of: {self.best_of} is no multiple of language.completions "
                f"{self.completions}, at least 2; change one of them"
            )
        if self.training.prompts > self.prompts:
            raise InputError(
                f"language.training.prompts: an update asks {self.training.prompts} of "
                f"{self.prompts} prompts; raise language.prompts"
            )


@dataclass(frozen=True)
class World:
    """What a seed stands for.

    Attributes:
        prompts: `Prompt` of P rows, on which policies act.
        held_out: prompts that measure.
        pairs: comparisons of the reference's completions.
        proxy: what was learned from them.
        zero: what the proxy gives the reference's completions on average, which
            comparisons leave open.
        mean: of the reference's valence on held-out prompts.
        scale: its standard deviation.
    """

    prompts: Prompt
    held_out: list[EncodedPrompt]
    pairs: Preference
    proxy: EmbeddingReward
    zero: float
    mean: float
    scale: float

    def gold(self, valence: np.ndarray) -> np.ndarray:
        """The gold reward of a valence: standard deviations of the reference's, f32."""
        return ((valence - self.mean) / self.scale).astype(np.float32)

    def judge(self, features: ArrayLike) -> Array:
        """The proxy's rewards f32[...] of features f32[..., F], logits."""
        return self.proxy(jnp.asarray(features)).mean(0) - self.zero


def measure_by(session: Session, layers: int) -> Measure:
    """Measures the valence of completions, and features from the model's first layers."""
    return lambda group, texts: {
        "gold": valence(texts),
        "features": session.embed(group, layers),
    }


def make_world(
    session: Session,
    config: LanguageConfig,
    prompts: list[EncodedPrompt],
    seed: int,
    beta: float,
    run: RunDirectory,
    progress: Progress,
) -> tuple[World, dict[str, np.ndarray]]:
    """The world of a seed; the model's completions are kept as responses_SEED.npz.

    Returns:
        The world; and "gold" and "proxy" f32[Q, K], rewards of the model's completions
        of held-out prompts.
    """
    train, held_out = prompts[: config.prompts], prompts[config.prompts :]
    rounds = config.best_of // config.completions
    file = run.path / f"responses_{seed}.npz"
    if not file.exists():
        rows = train + held_out * rounds
        session.respond(
            session.model.params, rows, jax.random.fold_in(jax.random.key(seed), 0),
            completions=config.completions, batch_size=config.held_out,
            advance=progress.stage(f"completions, world {seed}", len(rows)),
            measure=measure_by(session, config.feature_layers),
        ).save(file)  # fmt: skip
    found = Completions.load(file)
    first, rest = found.part(slice(config.prompts)), found.part(slice(config.prompts, None))
    gold, features = first.values["gold"], first.values["features"]
    other = rest.values["gold"]
    if not gold.std(axis=1).any() or not other.std():
        raise InputError(
            f"language: in world {seed} there is nothing to compare, all completions of a prompt "
            "have one valence; raise language.completions or language.max_new_tokens"
        )
    mean, scale = float(other.mean()), float(other.std())
    index, _ = annotate(
        (gold - mean) / scale, logistic_annotator(beta),
        pairs_per_prompt=config.pairs_per_prompt, seed=seed,
    )  # fmt: skip
    proxy = learn_proxy(config, features, index, seed)
    context = session.collate(train)
    world = World(
        prompts=context,
        held_out=held_out,
        pairs=compared(context, first, index),
        proxy=proxy,
        zero=float(proxy(jnp.asarray(features)).mean()),
        mean=mean,
        scale=scale,
    )
    # [rounds · Q, K', ...] -> [Q, rounds · K', ...]
    together = lambda x: np.concatenate(np.split(x, rounds), axis=1)
    rewards = world.judge(together(rest.values["features"]))
    return world, {"gold": world.gold(together(other)), "proxy": np.asarray(rewards)}


def compared(context: Prompt, answers: Completions, index: np.ndarray) -> Preference:
    """Comparisons as pairs of tokens.

    Args:
        context: `Prompt` of P rows.
        answers: to them.
        index: i64[N, 3], of `annotate`: prompt, chosen and rejected completion.
    """
    prompt, sides = index[:, :1], index[:, 1:]
    ones: Any = np.ones(len(index), np.float32)
    return Preference(
        context=jax.tree.map(lambda x: x[prompt[:, 0]], context),
        action=answers.action[prompt, sides],
        mask=answers.mask[prompt, sides],
        margin=0 * ones,
        weight=ones,
    )


def learn_proxy(
    config: LanguageConfig, features: np.ndarray, index: np.ndarray, seed: int
) -> EmbeddingReward:
    """An ensemble from comparisons; of one shape however many there are.

    Args:
        config: sizes.
        features: f32[P, K, F] of completions.
        index: i64[N, 3], of `annotate`.
        seed: of the ensemble.
    """
    most = config.prompts * config.pairs_per_prompt
    padded = np.resize(index, (most, 3))
    both = features[padded[:, :1], padded[:, 1:]]
    weight = (np.arange(most) < len(index)).astype(np.float32)
    key = jax.random.fold_in(jax.random.key(seed), 1)
    model, _ = fit_ensemble(
        jnp.asarray(both), Preference.without_tokens(jnp.asarray(weight)), key,
        config=config.reward,
    )  # fmt: skip
    return model
