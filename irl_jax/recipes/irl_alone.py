"""A policy alone from demonstrations and samples, in which its reward is read: SPIN, IQ-Learn."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from jax import Array

from irl_jax.losses.scores import log_ratio
from irl_jax.models.sharding import RULES
from irl_jax.recipes.irl_config import IrlConfig
from irl_jax.recipes.irl_training import Ready, answered, updates
from irl_jax.recipes.options import as_options
from irl_jax.recipes.policy_training import optimizer
from irl_jax.recipes.training import policy_start
from irl_jax.train.adversarial import told_metrics
from irl_jax.train.against_samples import (
    meet,
    online_soft_q_objective,
    spin_objective,
    with_opponent,
)
from irl_jax.train.keys import Stage
from irl_jax.train.shard import jit_step, place
from irl_jax.train.state import TrainState, init_state, joined
from irl_jax.train.step import Step, make_train_step, side_by_side
from irl_jax.types import Group, LoopContext, Objective, PyTree, Rewarded


def begin_alone(config: IrlConfig, ready: Ready) -> tuple[Step, TrainState]:
    """The compiled step of a policy and, for SPIN, its opponent; the first state, on the mesh."""
    training, options = ready.training, dict(as_options(config.options))
    session, model = training.session, training.session.model
    policy_key, key = jax.random.split(training.key(Stage.POLICY))
    tx = optimizer(config.lr, updates(config, ready))
    state = joined(key, policy=init_state(policy_start(training, policy_key), tx, key))
    own = options.pop("every" if ready.row.form == "opponent" else "discount")
    loss = partial(ready.row.loss, **options)

    def stepping(objective: Objective) -> Step:
        return side_by_side(policy=make_train_step(objective, tx, accumulate=training.accumulate))

    if ready.row.form == "opponent":
        state = meet(state)
        made = spin_objective(model.config, training.adapt, loss, sampling=session.sampling)
        step = with_opponent(stepping(made), every=own)
    else:
        step = stepping(online_soft_q_objective(model.config, training.adapt, loss, discount=own))
    state = place(session.mesh, state, RULES)
    return jit_step(step, session.mesh, state, RULES, frozen=(model.params,)), state


@dataclass(frozen=True)
class Alone:
    """What happens between two updates: who answers, and what is logged of it.

    Attributes:
        ready: of the run.
        completions: K of each prompt.
    """

    ready: Ready
    completions: int

    @property
    def writer(self) -> str:
        """Whose answers are learned from."""
        return "opponent" if self.ready.row.form == "opponent" else "policy"

    def rollout(self, params: PyTree, batch: Any, key: Array) -> Group:
        """Answers of the writer, and the demonstration of each prompt last."""
        return answered(self.ready, self.completions, params[self.writer], batch, key)

    def reward(self, group: Group, context: LoopContext) -> Rewarded:
        """log π/π_ref of the writer, nats, which nothing learns from."""
        session = self.ready.training.session
        value = log_ratio(group.logp, session.logp(session.model.params, group), group.mask)
        return Rewarded(value, metrics=told_metrics(value, value))

    def prepare(self, group: Group, context: LoopContext) -> dict[str, Any]:
        """What the policy learns from."""
        return {"policy": group}
