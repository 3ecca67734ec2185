"""Each way to imitate as a pure function of one lane: what its policy returns, and returned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial

import flax.struct
import jax
import jax.numpy as jnp
from jax import Array

from experiments.adversarial_imitation.config import Config
from experiments.adversarial_imitation.tasks import Episodes, Shown, Task, show
from irl_jax.envs.environment import fixed_horizon
from irl_jax.losses.divergence import fairl, gail
from irl_jax.models.actor_critic import greedy
from irl_jax.recipes.cloning import clone, make_dagger
from irl_jax.recipes.control import make_train, mean_return
from irl_jax.recipes.imitation import AIRLConfig, adversarial_reward, airl_reward
from irl_jax.recipes.interaction import Trained
from irl_jax.recipes.soft_q import (
    SoftLoss,
    iq_loss,
    make_iq_offline,
    make_soft_imitation,
    sqil_loss,
)
from irl_jax.rollout.unroll import Act
from irl_jax.types import PyTree, Trajectory

POINTS = 8  # of a learning curve
FORMS = ("GAIL", "FAIRL", "opposite", "constant")  # what is made of a discriminator's logits


@flax.struct.dataclass
class Lane:
    """What one learner is given; an axis in front makes them many.

    Attributes:
        seed: i32[], number of its demonstrations and of its randomness.
        pushes_left: bool[], whether the expert takes no heed and pushes left.
        form: i32[], place in `FORMS`.
    """

    seed: Array
    pushes_left: Array
    form: Array


@dataclass(frozen=True)
class World:
    """A task with all that is the same for every lane.

    Attributes:
        config: settings.
        task: the task.
        episodes: of the expert.
        asked: (observation in the task's units, typed PRNG key) -> action, whom DAgger asks.
    """

    config: Config
    task: Task
    episodes: Episodes
    asked: Act

    def shown(self, lane: Lane, discount: float) -> tuple[Shown, Array]:
        """What is shown to a lane, and the learner's key."""
        key = jax.random.fold_in(jax.random.key(self.config.seed), lane.seed)
        showing, learning = jax.random.split(key)
        return show(self.task, self.episodes, showing, lane.pushes_left, discount), learning

    def measured(self, shown: Shown, trained: Trained, key: Array) -> tuple[Array, Array]:
        """The return of a greedy policy f32[], and of the one that acted over time f32[POINTS].

        NaN where no episode ended.
        """
        value = self.value(shown, trained.params, key)
        if "return" not in trained.metrics:
            return value, jnp.full(POINTS, value)
        total, count = (
            jnp.stack([x.sum() for x in jnp.array_split(y, POINTS)])
            for y in (
                trained.metrics["return"] * trained.metrics["episodes"],
                trained.metrics["episodes"],
            )
        )
        return value, total / count

    def value(self, shown: Shown, params: PyTree, key: Array) -> Array:
        """The return of a greedy policy, f32[]."""
        return mean_return(shown.env, partial(greedy, params), key, self.config.episodes)


Learner = Callable[[World, Lane], tuple[Array, Array]]


def cloned(world: World, lane: Lane) -> tuple[Array, Array]:
    """Behaviour cloning."""
    shown, key = world.shown(lane, 1.0)
    cloning, measuring = jax.random.split(key)
    params = clone(world.config.cloning, shown.env, shown.demonstrations, cloning)
    return world.measured(shown, Trained(params, None, {}), measuring)


def dagger(world: World, lane: Lane) -> tuple[Array, Array]:
    """DAgger."""
    shown, key = world.shown(lane, 1.0)
    training, measuring = jax.random.split(key)
    asked = lambda observation, key: world.asked(shown.raw(observation), key)
    train = make_dagger(shown.env, shown.demonstrations, world.config.dagger, asked)
    return world.measured(shown, train(training), measuring)


def soft(loss: SoftLoss, world: World, lane: Lane) -> tuple[Array, Array]:
    """SQIL, or IQ-Learn with what the policy did."""
    shown, key = world.shown(lane, world.config.soft.discount)
    training, measuring = jax.random.split(key)
    train = make_soft_imitation(shown.env, shown.demonstrations, world.config.soft, loss)
    return world.measured(shown, train(training), measuring)


def offline(world: World, lane: Lane) -> tuple[Array, Array]:
    """IQ-Learn from demonstrations alone."""
    config = world.config
    shown, key = world.shown(lane, config.soft.discount)
    training, measuring = jax.random.split(key)
    train = make_iq_offline(shown.env, shown.demonstrations, config.offline, alpha=config.alpha)
    return world.measured(shown, train(training), measuring)


def adversarial(world: World, lane: Lane) -> tuple[Array, Array]:
    """PPO by one of `FORMS` of a discriminator's logits."""
    config = world.config
    shown, key = world.shown(lane, config.policy.discount)
    training, measuring = jax.random.split(key)

    def reward(v: Array) -> Array:
        even = gail(v, b=0.5)  # no sign is needed where no episode ends
        return jnp.stack([even, fairl(v), -even, jnp.ones_like(v)])[lane.form]

    learned = adversarial_reward(shown.env, shown.demonstrations, config.discriminator, reward)
    return world.measured(shown, make_train(shown.env, config.policy, learned)(training), measuring)


def airl(world: World, lane: Lane) -> tuple[Array, Array]:
    """AIRL; its reward has the policy's entropy in it."""
    config = world.config
    shown, key = world.shown(lane, config.policy.discount)
    training, measuring = jax.random.split(key)
    settings = AIRLConfig(actions=True, **asdict(config.discriminator))
    learned = airl_reward(shown.env, shown.demonstrations, settings)
    policy = replace(config.policy, entropy=0.0)
    return world.measured(shown, make_train(shown.env, policy, learned)(training), measuring)


def learners(config: Config) -> dict[str, Learner]:
    """Every way to imitate; `adversarial` is GAIL, FAIRL and two of the controls."""
    return {
        "behaviour cloning": cloned,
        "DAgger": dagger,
        "SQIL": partial(soft, sqil_loss),
        "IQ-Learn": partial(soft, iq_loss(alpha=config.alpha)),
        "IQ-Learn, offline": offline,
        "adversarial": adversarial,
        "AIRL": airl,
    }


def clone_of_all(config: Config, task: Task, episodes: Episodes) -> tuple[Act, Array]:
    """A clone of every recorded step, and its return, f32[seeds]; it stands in for the expert."""
    seen = jnp.asarray(episodes.observation)
    mean = seen.mean((0, 1))
    deviation = seen.std((0, 1)) + 1e-6
    absorbed = jnp.zeros((*seen.shape[:2], 1))
    scaled = jnp.concatenate([(seen - mean) / deviation, absorbed], -1)
    env = fixed_horizon(task.env)
    action = jnp.asarray(episodes.action)
    zeros = jnp.zeros(action.shape)
    batch = Trajectory(
        scaled[:, :-1], action, zeros == 0, zeros, zeros, jnp.zeros(len(action), bool)
    )
    cloning, measuring = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 2**31))
    params = jax.jit(lambda key: clone(config.whole, env, batch, key))(cloning)

    def asked(observation: Array, key: Array) -> tuple[Array, Array]:
        x = jnp.append((observation[: len(mean)] - mean) / deviation, 0.0)
        return greedy(params, x, key)

    measure = jax.jit(jax.vmap(lambda key: mean_return(env, asked, key, config.episodes)))
    return asked, measure(jax.random.split(measuring, config.seeds))
