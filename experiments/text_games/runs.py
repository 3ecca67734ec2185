"""Runs of a decoder in the guessing game, which differ in the advantages alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.text_games.config import Config
from irl_jax.dynamics.advantages import leave_one_out
from irl_jax.dynamics.turns import to_tokens, turn_leave_one_out
from irl_jax.envs.text import GuessingGame
from irl_jax.losses.policy import reinforce
from irl_jax.models.decoder import DecoderConfig, init_params
from irl_jax.rewards.contract import of_group
from irl_jax.rollout.generate import generate
from irl_jax.rollout.sampling import Sampling
from irl_jax.rollout.turns import Words, roll_turns
from irl_jax.train.objectives import PolicyBatch, full, policy_objective
from irl_jax.train.online import train_online
from irl_jax.train.progress import Progress
from irl_jax.train.state import init_state
from irl_jax.train.step import Step, make_train_step
from irl_jax.types import Group, LoopContext, Prompt, PyTree, Turns

EPISODE, TURN = "of episodes", "of turns"
RETURN, FOUND, GUESSES = "return", "share found", "guesses"
MEASURES = (RETURN, FOUND, GUESSES)
END = 0  # ends a turn, and fills
TURN_TOKENS = 2  # a number and the end
HEARD_TOKENS = 2  # the answer, and the end of a turn that lacks it

Advantages = Callable[[Turns], Array]


def of_episodes(turns: Turns) -> Array:
    """One for all tokens: the episode against the others of the same hidden number."""
    advantage = leave_one_out(turns.reward.sum(-1))[..., None]
    return jnp.broadcast_to(advantage, turns.number.shape)


def of_turns(turns: Turns) -> Array:
    """Of each turn: what follows it, against what follows turns of equal number of the others."""
    advantage = turn_leave_one_out(turns.reward, turns.mask, discount=1.0)
    return to_tokens(advantage, turns.number)


ARMS: dict[str, Advantages] = {EPISODE: of_episodes, TURN: of_turns}


def words_of(largest: int) -> Words:
    """The lexicon of the guessing game, a token for each word."""
    lexicon = ["<end>", "guess", "from", "to", "higher", "lower", "unknown"]
    lexicon += [str(n) for n in range(1, largest + 1)]
    encode = lambda text: [lexicon.index(word) for word in text.split()]
    decode = lambda ids: " ".join(lexicon[i] for i in ids)
    return Words(encode, encode, decode, (END,))


def decoder_config(config: Config) -> DecoderConfig:
    """A small decoder that holds a whole episode."""
    return DecoderConfig(
        vocab_size=7 + config.largest,
        d_model=config.width,
        n_layers=config.layers,
        n_heads=2,
        n_kv_heads=2,
        head_dim=config.width // 2,
        d_ff=2 * config.width,
        max_positions=sum(sizes(config)),
    )


def sizes(config: Config) -> tuple[int, int]:
    """Tokens of the prompt and of all that follows it, with all turns taken."""
    prompt = len(words_of(config.largest).first(GuessingGame(config.largest, cost=0.0).reset(0)))
    return prompt, config.turns * TURN_TOKENS + (config.turns - 1) * HEARD_TOKENS


def roll(config: Config, params: PyTree, seeds: Sequence[int], key: Array) -> Group:
    """Episodes of the policy, `config.episodes` of each seed."""
    model, (prompt, length) = decoder_config(config), sizes(config)

    def sample(prompts: Prompt, key: Array, numbers: np.ndarray) -> Group:
        return generate(
            model, params, prompts, key, completions=1, max_new_tokens=TURN_TOKENS,
            sampling=Sampling(), eos_ids=(END,), numbers=jnp.asarray(numbers),
        )  # fmt: skip

    return roll_turns(
        sample, partial(GuessingGame, config.largest, cost=config.cost), seeds,
        words_of(config.largest), key, prompt_width=prompt, length=length,
        max_new_tokens=TURN_TOKENS, turns=config.turns, completions=config.episodes,
    )  # fmt: skip


def make_step(config: Config) -> tuple[Step, optax.GradientTransformation]:
    """The update that all arms share, and its optimizer."""
    tx = optax.adam(config.learning_rate)
    objective = policy_objective(decoder_config(config), full, reinforce, sampling=Sampling())
    return jax.jit(make_train_step(objective, tx), donate_argnums=0), tx


def learn(
    config: Config,
    arm: str,
    seed: int,
    step: Step,
    tx: optax.GradientTransformation,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """A run of an arm; arms of a seed begin with the same parameters and the same episodes.

    Returns:
        Measure -> f64[parts], means over the episodes that were learned from.
    """
    starting, playing = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), seed))
    params = init_params(decoder_config(config), starting)
    advantages = jax.jit(ARMS[arm])
    rows: list[list[float]] = []

    def prepare(group: Group, context: LoopContext) -> PolicyBatch:
        assert group.turns is not None
        return PolicyBatch(group, advantages(group.turns))

    def observe(group: Group, context: LoopContext) -> dict[str, float]:
        assert group.turns is not None
        guesses = group.turns.mask.sum(-1).mean()
        rows.append([float(x) for x in (group.reward.mean(), group.terminated.mean(), guesses)])
        return {}

    train_online(
        step,
        init_state(params, tx, playing),
        itertools.repeat(range(config.largest)),
        rollout=partial(roll, config),
        reward=of_group(lambda group: group.reward),
        steps=config.updates,
        prepare=prepare,
        observe=observe,
        frozen=(params,),
        progress=progress,
        stage=f"{arm}, seed {seed}",
    )
    means = np.array(rows).reshape(config.parts, -1, len(MEASURES)).mean(1)
    return dict(zip(MEASURES, means.T, strict=True))
