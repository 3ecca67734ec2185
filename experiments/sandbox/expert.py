"""An expert of the sandbox, who writes as the reference does but for what gold likes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
from jax import Array

from experiments.sandbox.task import Task, draw_prompts, sample
from irl_jax.masking import check_range
from irl_jax.rollout.opponents import Demonstrated
from irl_jax.types import Prompt


@dataclass(frozen=True)
class ExpertConfig:
    """Who demonstrates: π_E ∝ π_ref exp(tilt · gold), drawn from samples of the reference."""

    tilt: float = 1.5  # nats per standard deviation of gold
    pool: int = 128  # completions of the reference from which a demonstration is drawn

    def __post_init__(self) -> None:
        check_range("expert.tilt", self.tilt, 0.0)
        check_range("expert.pool", self.pool, 2)


@partial(jax.jit, static_argnames=("count", "config"))
def demonstrate(
    tasks: Task, keys: Array, *, count: int, config: ExpertConfig
) -> tuple[Demonstrated, Array]:
    """Demonstrations of the expert, leaves [S, N, ...], and their mean gold f32[S].

    A demonstration is one of `pool` completions of the reference, drawn with probability
    ∝ exp(tilt · gold): the expert's log π_E/π_ref is tilt · gold but for a constant of the
    prompt, as far as the pool allows.
    """

    def one(item: tuple[Task, Array]) -> tuple[Demonstrated, Array]:
        task, (ask, act) = item[0], jax.random.split(item[1])
        context = draw_prompts(task, ask, count)

        def draw(row: tuple[Prompt, Array]) -> tuple[dict[str, Array], Array]:
            own = jax.tree.map(lambda x: x[None], row[0])
            acting, choosing = jax.random.split(row[1])
            group = sample(task, task.reference, own, acting, completions=config.pool)
            taken = jax.random.categorical(choosing, config.tilt * group.reward[0])
            alone = {name: getattr(group, name)[0, taken][None] for name in ("action", "mask")}
            return alone | {"terminated": group.terminated[0, taken][None]}, group.reward[0, taken]

        rows, gold = jax.lax.map(draw, (context, jax.random.split(act, count)), batch_size=64)
        return Demonstrated(context, **rows), gold.mean()

    found: tuple[Demonstrated, Array] = jax.lax.map(one, (tasks, keys))
    return found
