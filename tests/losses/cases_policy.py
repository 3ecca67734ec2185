"""Rows of `cases.CASES`: policy gradients."""

from typing import Any

from irl_jax.losses.policy import (
    cispo,
    dapo,
    dr_grpo,
    gmpo,
    grpo,
    gspo,
    ppo,
    reinforce,
    reinforce_plus_plus,
    weighted_sft,
)
from irl_jax.losses.policy_variants import luspo, sapo, vespo
from irl_jax.losses.ratio import k2
from irl_jax.losses.reduction import group_mean
from irl_jax.losses.value import clipped_value
from irl_jax.types import Group, Trajectory
from tests.losses.case import Case
from tests.oracles import policy as oracles

ARGS: dict[str, Any] = {"args": {"logp": "BKT"}, "reads": ("mask", "logp")}
OF_COMPLETIONS: dict[str, Any] = {**ARGS, "keywords": {"advantage": "BK"}}
WITH_REF: dict[str, Any] = {**ARGS, "keywords": {"advantage": "BK", "ref_logp": "BKT"}}
HIGHER = (0.2, 0.28)

POLICY = [
    Case("grpo", grpo, oracles.grpo, Group, **WITH_REF, params={"clip": 0.2, "beta": 0.04}),
    Case(
        "grpo-without-reference",
        grpo,
        oracles.grpo,
        Group,
        **OF_COMPLETIONS,
        params={"clip": 0.2, "beta": 0.0},
    ),
    Case(
        "ppo-trajectory",
        ppo,
        oracles.ppo,
        Trajectory,
        args={"logp": "BT"},
        reads=("mask", "logp"),
        keywords={"advantage": "BT", "ref_logp": "BT"},
        params={"clip": HIGHER, "beta": 0.1, "entropy": 0.02},
    ),
    Case(
        "reinforce-k2",
        reinforce,
        oracles.reinforce,
        Group,
        **WITH_REF,
        params={"beta": 0.1, "kl": k2},
        oracle_params={"beta": 0.1, "kl": "k2"},
    ),
    Case(
        "ppo-dual-clip",
        ppo,
        oracles.ppo,
        Group,
        **OF_COMPLETIONS,
        params={"clip": 0.2, "dual": 1.3},
    ),
    Case(
        "reinforce_plus_plus",
        reinforce_plus_plus,
        oracles.ppo,
        Group,
        **ARGS,
        keywords={"advantage": "BKT", "ref_logp": "BKT"},
        params={"clip": 0.2, "beta": 0.1, "kl": k2},
        oracle_params={"clip": 0.2, "beta": 0.1, "kl": "k2"},
    ),
    Case("dapo", dapo, oracles.ppo, Group, **OF_COMPLETIONS, params={"clip": HIGHER}),
    Case(
        "dapo-by-group",
        dapo,
        oracles.dapo_by_group,
        Group,
        **OF_COMPLETIONS,
        params={"clip": HIGHER, "aggregate": group_mean},
        oracle_params={"clip": HIGHER},
    ),
    Case(
        "cispo-by-group",
        cispo,
        oracles.cispo_by_group,
        Group,
        **OF_COMPLETIONS,
        params={"clip": (0.9, 0.28), "aggregate": group_mean},
        oracle_params={"clip": (0.9, 0.28)},
        stops_gradient=True,
    ),
    Case(
        "dr_grpo",
        dr_grpo,
        oracles.dr_grpo,
        Group,
        **OF_COMPLETIONS,
        params={"clip": 0.2, "length": 8.0},
    ),
    Case("gspo", gspo, oracles.gspo, Group, **OF_COMPLETIONS, params={"clip": (0.1, 0.15)}),
    Case("luspo", luspo, oracles.luspo, Group, **OF_COMPLETIONS, params={"clip": (0.1, 0.15)}),
    Case(
        "sapo",
        sapo,
        oracles.sapo,
        Group,
        **WITH_REF,
        params={"positive": 1.5, "negative": 2.5, "beta": 0.1},
    ),
    Case(
        "vespo",
        vespo,
        oracles.vespo,
        Group,
        **OF_COMPLETIONS,
        params={"positive": (2.0, 3.0), "negative": (3.0, 1.5)},
        stops_gradient=True,
    ),
    Case("gmpo", gmpo, oracles.gmpo, Group, **OF_COMPLETIONS, params={"clip": (0.3, 0.4)}),
    Case("weighted_sft", weighted_sft, oracles.weighted_sft, Group, **OF_COMPLETIONS),
    Case(
        "clipped_value",
        clipped_value,
        oracles.clipped_value,
        Group,
        args={"value": "BKT"},
        reads=("mask",),
        keywords={"target": "BKT", "old_value": "BKT"},
        params={"clip": 0.3},
    ),
    Case(
        "cispo",
        cispo,
        oracles.cispo,
        Group,
        **OF_COMPLETIONS,
        params={"clip": (0.9, 0.28)},
        stops_gradient=True,
    ),
]
