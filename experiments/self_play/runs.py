"""Runs of self-play, each one program, and how far from an equilibrium they are on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from experiments.self_play.config import Config
from experiments.self_play.decoder import as_policy, decided, decoder_config
from irl_jax.envs.environment import Step
from irl_jax.envs.games import Game, kuhn_poker
from irl_jax.eval.checks import F64
from irl_jax.eval.games import Level, expected_reward, exploitability, levels
from irl_jax.models.decoder import init_params
from irl_jax.recipes.self_play import (
    BASELINES,
    ROLE,
    Gradient,
    SelfPlayConfig,
    exact,
    sampled,
    self_play,
    table,
)
from irl_jax.types import PyTree

PLAIN, HELD = "plain", "held to a reference"
METHODS = (PLAIN, HELD)
EVEN, UNEVEN, DECODED = "Kuhn poker", "with a handicap", "by a decoder"
GAMES = (EVEN, UNEVEN, DECODED)


class Arm(NamedTuple):
    """A kind of run."""

    game: str
    method: str
    baseline: str

    @property
    def label(self) -> str:
        """Its name in tables."""
        return f"{self.method}, baseline: {self.baseline}"


ARMS = (
    *(Arm(game, method, b) for game in (EVEN, UNEVEN) for method in METHODS for b in BASELINES),
    *(Arm(DECODED, method, ROLE) for method in METHODS),
)


def handicapped(game: Game, handicap: float) -> Game:
    """The game, at whose end the second player pays the first what is no matter of its moves."""

    def step(state: PyTree, action: Array) -> Step:
        to = game.step(state, action)
        paid = jnp.where(to.terminated, handicap, 0.0) * jnp.array([1.0, -1.0])
        return to._replace(reward=to.reward + paid)

    return replace(game, step=step)


def judged(tree: Sequence[Level], policies: F64) -> tuple[F64, F64]:
    """Exploitability of policies and what the first player earns, f64[...] each.

    Args:
        tree: of the game.
        policies: f64[..., N, A].
    """
    flat = policies.reshape(-1, *policies.shape[-2:])
    found = np.array([(exploitability(tree, x), expected_reward(tree, x)[0]) for x in flat])
    off, value = found.T.reshape(2, *policies.shape[:-2])
    return off, value


def tables(gradient: Gradient, config: SelfPlayConfig, keys: Array) -> F64:
    """Policies of runs that start uniform, f64[seeds, snapshots + 1, N, A]."""
    start = jnp.zeros((12, 2))
    run = jax.jit(jax.vmap(lambda key: self_play(gradient, start, key, config)))
    return np.asarray(jax.nn.softmax(run(keys)), np.float64)


def settings(config: Config, arm: Arm) -> SelfPlayConfig:
    """Those of an arm."""
    learning = config.decoder if arm.game == DECODED else config.learning
    beta = learning.beta if arm.method == HELD else 0.0
    return replace(learning, baseline=arm.baseline, beta=beta)


def decoders(learning: SelfPlayConfig, width: int, keys: Array) -> F64:
    """As `tables`, by decoders that start at random, Adam, and the same gradient of games."""
    shape = decoder_config(width)
    gradient = sampled(kuhn_poker(), partial(as_policy, shape), learning)

    def run(key: Array) -> Array:
        starting, playing = jax.random.split(key)
        start = init_params(shape, starting)
        params = self_play(gradient, start, playing, learning, optax.adam)
        return jax.nn.softmax(jax.vmap(partial(decided, shape))(params))

    return np.asarray(jax.jit(jax.vmap(run))(keys), np.float64)


def measure(config: Config, arm: Arm) -> tuple[F64, F64]:
    """Runs an arm with every seed, all at once; tables begin with the same deals in all arms.

    Returns:
        f64[seeds, snapshots + 1] each: exploitability, and what the first player earns.
    """
    game, learning = kuhn_poker(), settings(config, arm)
    keys = jax.random.split(jax.random.key(config.seed), config.seeds)
    if arm.game == DECODED:
        return judged(levels(game), decoders(learning, config.width, keys))
    if arm.game == UNEVEN:
        game = handicapped(game, config.handicap)
    return judged(levels(game), tables(sampled(game, table, learning), learning, keys))


def measure_exact(config: Config, method: str) -> tuple[F64, F64]:
    """The run by exact gradients, f64[snapshots + 1] each: as `measure`, there is no seed."""
    tree = levels(kuhn_poker())
    learning = config.exact if method == HELD else replace(config.exact, beta=0.0)
    keys = jax.random.split(jax.random.key(0), 1)
    off, value = judged(tree, tables(exact(tree, learning), learning, keys))
    return off[0], value[0]
