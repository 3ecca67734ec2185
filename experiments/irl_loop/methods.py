"""Ways to learn from demonstrations: what is sampled, what is learned, what reward comes of it.

Each is a `Method` of pure functions of one run, so that worlds and numbers of demonstrations are
vmapped over; a row of `METHODS` is all that one takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from experiments.sandbox.task import Task, sample
from irl_jax.dynamics.returns import next_value
from irl_jax.losses.adversarial import airl, raro
from irl_jax.losses.direct import dpo
from irl_jax.losses.divergence import gail
from irl_jax.losses.policy import grpo, weighted_sft
from irl_jax.losses.preference import bradley_terry
from irl_jax.losses.rating import binary_cross_entropy
from irl_jax.losses.soft_q import iq_learn, phi_chi_square
from irl_jax.masking import masked_sum
from irl_jax.models.heads import init_scalar_head
from irl_jax.models.logprob import completion_logp, completion_q
from irl_jax.rollout.opponents import Demonstrated, with_demonstrations
from irl_jax.rollout.sampling import Sampling
from irl_jax.train.adversarial import (
    Discriminator,
    discriminator_objective,
    learned_rewards,
    log_ratios,
    policy_batch,
    rewards,
)
from irl_jax.train.against_samples import meet, spin_objective, with_opponent
from irl_jax.train.objectives import PolicyBatch, full, policy_objective
from irl_jax.train.state import TrainState, init_state, joined
from irl_jax.train.step import make_train_step, side_by_side
from irl_jax.types import Group, Loss, Prompt, PyTree, Trajectory

# task, demonstrations of an update, key, state -> state
Update = Callable[[Task, Demonstrated, Array, TrainState], TrainState]
GAIL = Discriminator(binary_cross_entropy, partial(gail, b=0.5))
R_AIRL = Discriminator(binary_cross_entropy, airl, tells="token", policy=True)
Reward = Callable[[Task, PyTree, Prompt, Array, Array], Array]
SAMPLING = Sampling()
ALPHA = 25.0  # of IQ-Learn's χ²: λ = 1/4α = 0.01, of which its authors try 0.001 to 0.1


@dataclass(frozen=True)
class Rates:
    """What the updates of all methods share.

    Attributes:
        policy: learning rate of Adam, of policies that learn from demonstrations.
        rewarded: of those that are rewarded.
        discriminator: of discriminators.
        completions: K, the policy's, of each prompt.
        updates: of a run, of which alignment from demonstrations gives half to the reward.
        every: updates after which SPIN's opponent becomes its policy.
        beta: weight of the KL to the reference in the loss of policies that are rewarded.
    """

    policy: float
    rewarded: float
    discriminator: float
    completions: int
    updates: int
    every: int
    beta: float


@dataclass(frozen=True)
class Method:
    """A way to learn from demonstrations.

    Attributes:
        start: (task, key, rates) -> state.
        update: (rates) -> `Update`.
        policy: parameters of the state -> the policy's.
        recovered: parameters of the state -> those of the reward.
        reward: (task, parameters of the reward, context, action i32[B, K, T], mask) -> what was
            recovered of it, f32[B, K]. Methods that share it share what is compiled.
    """

    start: Callable[[Task, Array, Rates], TrainState]
    update: Callable[[Rates], Update]
    policy: Callable[[PyTree], PyTree]
    recovered: Callable[[PyTree], PyTree]
    reward: Reward


def adam(lr: float) -> optax.GradientTransformation:
    """Adam behind a clip of the gradient's norm."""
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(lr))


def logp_of(task: Task, params: PyTree, group: Any) -> Array:
    """Log-probs of completions under a policy, f32[B, K, T]."""
    return completion_logp(task.config, params, group.context, group.action)


def implied(task: Task, policy: PyTree, context: Prompt, action: Array, mask: Array) -> Array:
    """log π/π_ref of completions: the reward, but for its scale, that a policy is best for."""
    own, ref = (
        completion_logp(task.config, params, context, action) for params in (policy, task.reference)
    )
    return masked_sum(own - ref, mask, axis=-1)


def alone(update: Callable[[Rates], Update]) -> Method:
    """A method that trains a policy alone."""
    return Method(
        start=lambda task, key, rates: init_state(task.reference, adam(rates.policy), key),
        update=update,
        policy=lambda params: params,
        recovered=lambda params: params,
        reward=implied,
    )


def sft(rates: Rates) -> Update:
    """The likelihood of the demonstrations."""

    def update(task: Task, shown: Demonstrated, key: Array, state: TrainState) -> TrainState:
        objective = policy_objective(task.config, full, weighted_sft, sampling=SAMPLING)
        step = make_train_step(objective, adam(rates.policy))
        absent: Any = None
        group = Group(
            shown.context, shown.action, shown.mask, jnp.zeros(shown.mask.shape), absent, absent
        )
        batch = PolicyBatch(group, jnp.ones(shown.mask.shape[:2]))
        return step(state, batch, task.reference)[0]

    return update


def iq(rates: Rates) -> Update:
    """Inverse soft Q-learning from demonstrations alone, with χ²: the logits are Q."""

    def update(task: Task, shown: Demonstrated, key: Array, state: TrainState) -> TrainState:
        absent: Any = None
        batch = Trajectory(absent, absent, shown.mask[:, 0], absent, absent, absent)

        def objective(params: PyTree, batch: Trajectory, key: Array, reference: PyTree) -> Loss:
            both = completion_q(task.config, params, shown.context, shown.action)
            q, value = (x[:, 0] for x in both)
            following = next_value(value, batch.mask, discount=1.0)
            return iq_learn(q, value, following, batch, phi=phi_chi_square(ALPHA))

        step = make_train_step(objective, adam(rates.policy))
        return step(state, batch, task.reference)[0]

    return update


def spin(rates: Rates) -> Update:
    """SPIN, as `irl-jax irl` has it."""

    def update(task: Task, shown: Demonstrated, key: Array, state: TrainState) -> TrainState:
        rollout = with_demonstrations(partial(sample, task, completions=1), partial(logp_of, task))
        loss = partial(dpo, beta=0.1)
        step = side_by_side(
            policy=make_train_step(
                spin_objective(task.config, full, loss, sampling=SAMPLING), adam(rates.policy)
            )
        )
        batch = {"policy": rollout(state.params["opponent"], shown, key)}
        return with_opponent(step, every=rates.every)(state, batch, task.reference)[0]

    return update


def start_spin(task: Task, key: Array, rates: Rates) -> TrainState:
    """Policy and opponent are the reference."""
    return meet(joined(key, policy=init_state(task.reference, adam(rates.policy), key)))


def start_both(task: Task, key: Array, rates: Rates) -> TrainState:
    """The policy is the reference, and so is what the discriminator's head of 0 stands on."""
    head = jax.tree.map(jnp.zeros_like, init_scalar_head(key, task.config.d_model))
    own = {"decoder": task.reference, "head": head}
    return joined(
        key,
        policy=init_state(task.reference, adam(rates.rewarded), key),
        discriminator=init_state(own, adam(rates.discriminator), key),
    )


def turn(
    task: Task, kind: Discriminator, rates: Rates, params: PyTree, writer: PyTree,
    shown: Demonstrated, key: Array,
) -> dict[str, Any]:  # fmt: skip
    """What policy and discriminator learn from a writer's completions, as in `irl-jax irl`."""
    rollout = with_demonstrations(
        partial(sample, task, completions=rates.completions), partial(logp_of, task)
    )
    group = rollout(writer, shown, key)
    ref_logp = logp_of(task, task.reference, group)
    relative = replace(group, logp=group.logp - ref_logp)
    v = log_ratios(task.config, kind, params, task.reference, relative, adapt=full)
    r, _ = rewards(kind, v, relative)
    policy = policy_batch(kind, r, group, ref_logp[:, : rates.completions])
    return {"policy": policy, "discriminator": relative}


def steps_of(task: Task, kind: Discriminator, rates: Rates) -> dict[str, Any]:
    """The steps of policy and discriminator."""
    loss = partial(grpo, clip=0.2, beta=rates.beta)
    policy = policy_objective(task.config, full, loss, sampling=SAMPLING)
    own = discriminator_objective(task.config, kind, adapt=full)
    return {
        "policy": make_train_step(policy, adam(rates.rewarded)),
        "discriminator": make_train_step(own, adam(rates.discriminator)),
    }


def by_turns(kind: Discriminator) -> Method:
    """Discriminator and policy by turns, as `irl-jax irl` has them."""

    def make(rates: Rates) -> Update:
        def update(task: Task, shown: Demonstrated, key: Array, state: TrainState) -> TrainState:
            own = state.params
            batch = turn(task, kind, rates, own["discriminator"], own["policy"], shown, key)
            return side_by_side(**steps_of(task, kind, rates))(state, batch, task.reference)[0]

        return update

    return with_discriminator(kind, make)


def one_after_the_other(kind: Discriminator) -> Method:
    """Alignment from demonstrations (AfD): the reference's samples are told apart, once for all.

    The discriminator learns in the first half of the updates, the policy for it in the second.

    Reference: Sun & van der Schaar 2024, arXiv 2405.15624.
    """

    def make(rates: Rates) -> Update:
        def update(task: Task, shown: Demonstrated, key: Array, state: TrainState) -> TrainState:
            steps = steps_of(task, kind, rates)
            learns = state.step < rates.updates // 2
            writer = jax.tree.map(
                lambda x, y: jnp.where(learns, x, y), task.reference, state.params["policy"]
            )
            batch = turn(task, kind, rates, state.params["discriminator"], writer, shown, key)
            after = side_by_side(**steps)(state, batch, task.reference)[0]

            def keep(name: str, moves: Array) -> Callable[[PyTree, PyTree], PyTree]:
                pick = lambda x, y: jnp.where(moves, x, y)
                return lambda new, old: jax.tree.map(pick, new[name], old[name])

            moves = {"policy": ~learns, "discriminator": learns}
            kept = {name: keep(name, own) for name, own in moves.items()}
            return replace(
                after,
                params={n: pick(after.params, state.params) for n, pick in kept.items()},
                opt_state={n: pick(after.opt_state, state.opt_state) for n, pick in kept.items()},
            )

        return update

    return with_discriminator(kind, make)


def of_completions(
    task: Task, params: PyTree, context: Prompt, action: Array, mask: Array,
    kind: Discriminator = GAIL,
) -> Array:  # fmt: skip
    """What a discriminator's head says of completions."""
    return learned_rewards(
        task.config, kind, params, task.reference, context, action, mask, adapt=full
    )


def of_tokens(task: Task, params: PyTree, context: Prompt, action: Array, mask: Array) -> Array:
    """The sum of what it says of tokens."""
    return of_completions(task, params, context, action, mask, R_AIRL)


def with_discriminator(kind: Discriminator, update: Callable[[Rates], Update]) -> Method:
    """A method whose recovered reward is the discriminator's."""
    return Method(
        start_both,
        update,
        lambda params: params["policy"],
        lambda params: params["discriminator"],
        of_tokens if kind.tells == "token" else of_completions,
    )


METHODS = {
    "SFT": alone(sft),
    "IQ-Learn": alone(iq),
    "SPIN": Method(
        start_spin,
        spin,
        lambda params: params["policy"],
        lambda params: params["policy"],
        implied,
    ),
    "AfD": one_after_the_other(GAIL),
    "GAIL": by_turns(GAIL),
    "AIRL": by_turns(Discriminator(binary_cross_entropy, airl, policy=True)),
    "R-AIRL": by_turns(R_AIRL),
    "RARO": by_turns(Discriminator(bradley_terry, raro, tells="pair")),
}
