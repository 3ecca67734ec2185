"""Every published loss by its name: what a command line or a notebook looks up.

    look_up("simpo").loss is irl_jax.losses.simpo
    look_up("hinge") is look_up("slic")          # TRL's spelling

A row says what a loss learns from (`kind`, a name of `irl_jax.data.kinds`, or samples), how a
model's outputs become its arguments (`form`), and its hyper-parameters with values to start
from. These are of the order that papers and TRL use; tune them.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import jax.numpy as jnp
from jax import Array

from irl_jax.dynamics.advantages import (
    group_advantages,
    leave_one_out,
    maxrl_advantages,
    pass_at_k_advantages,
)
from irl_jax.dynamics.weights import best
from irl_jax.losses import (
    adversarial,
    demonstration,
    direct,
    direct_named,
    direct_variants,
    distillation,
    divergence,
    listwise,
    outcome,
    policy,
    policy_variants,
    preference,
    process,
    ranking,
    rating,
    reference_free,
    regularisation,
    soft_q,
    transport,
    unpaired,
)
from irl_jax.losses.scores import log_ratio, mean_log_ratio
from irl_jax.types import InputError, Loss

Kind = Literal["pairs", "ratings", "rankings", "scored", "steps", "demonstrations", "prompts"]
Trains = Literal["policy", "reward", "both"]  # both: from demonstrations and samples
Form = Literal[
    # of a policy, from data
    "likelihood",  # (logp of a demonstration, batch)
    "soft_q",  # (logits and V of a demonstration, batch)
    "reference",  # (logp, ref_logp, batch)
    "reference_free",  # (logp, batch)
    "mismatched_kl",  # (logp, ref_logp, batch, kl=): the divergence on neighbours' completions
    "token_kl",  # (logp, kl, ref_logp, batch): the divergence before every token
    "on_policy_weight",  # (logp, ref_logp, batch, share=): how likely the policy is to write it
    # of a policy, from what it samples and a reward
    "group",  # (logp, group, advantage=, ref_logp=): the advantage is `advantage` of rewards
    "whitened",  # the same, advantages of tokens with a KL penalty, whitened over the batch
    "token_baseline",  # the same, advantages of tokens against the others of the group
    "critic",  # the same, advantages of tokens by a critic, which is trained too
    "greedy",  # the same, the baseline is a greedy completion
    "mixture",  # the same, against completions of a mixture with the reference
    "judged",  # (logp, ref_logp, pairs): two samples, which a Bradley-Terry judge orders
    "exploring",  # (logp, ref_logp, pairs, explore=): one of them the reference's
    "self_play",  # (logp, ref_logp, pairs, win=): the best and the worst of a group
    # of a policy, from what it samples and a teacher
    "divergence",  # (divergence from the teacher before every token, group)
    "taught",  # (logp, group, teacher_logp=)
    # of a reward
    "completion",  # (rewards of completions, batch)
    "regularised",  # (rewards of completions, logp, batch): the decoder's own head is kept
    "distribution",  # (means, log-variances, batch)
    "cutpoints",  # (rewards, batch, cutpoints=), which are trained too
    "token",  # (a number for every token, batch)
    # of a reward and the policy that it is learned against: v = log p/q is what tells
    "discriminator",  # (v of completions, batch)
    "airl",  # the same, v = g − log π/π_ref
    "airl_token",  # the same of every token
    "critic_of_pairs",  # (v of a demonstration and a sample, pairs)
    # of a policy alone, in which the reward is read, from demonstrations and samples
    "opponent",  # (logp, the opponent's logp, pairs of a demonstration and its sample)
    "own_soft_q",  # (Q, V and what follows of demonstrations and of its own samples, batch)
]


@dataclass(frozen=True)
class Published:
    """A loss of the table.

    Attributes:
        loss: the function, of `irl_jax.losses`.
        kind: what a line of the data is; of losses of samples, "prompts".
        form: how a model's outputs become its arguments.
        defaults: its hyper-parameters.
        fixed: arguments that make the name, and are no hyper-parameters.
        advantage: rewards f32[B, K] -> advantages f32[B, K], of the form "group"; defaults that
            it has by keyword are its own.
        trains: a policy, a reward model, or both from demonstrations and samples.
        reward: log-ratios v -> rewards of a policy, where a discriminator is trained against it;
            its hyper-parameters are among the defaults.
        trl: TRL's spelling, where it differs.
        scale: of a loss of ratings, what a score may be: a "probability" that the completion is
            good, any "number", or a "category" 0, 1, ...
        log_odds: of a reward model: the difference of two rewards is the log-odds that the
            first response is preferred, so that it can be calibrated.
    """

    loss: Callable[..., Loss]
    kind: Kind
    form: Form
    defaults: Mapping[str, Any] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    advantage: Callable[..., Array] | None = None
    trains: Trains = "policy"
    reward: Callable[..., Array] | None = None
    trl: str = ""
    scale: Literal["number", "probability", "category"] = "probability"
    log_odds: bool = False

    @property
    def taught(self) -> bool:
        """Whether a teacher stands in the place of a reward."""
        return self.form in ("divergence", "taught")


def _pairs(loss: Callable[..., Loss], trl: str = "", **defaults: Any) -> Published:
    return Published(loss, "pairs", "reference", defaults, trl=trl)


def _free(loss: Callable[..., Loss], **defaults: Any) -> Published:
    return Published(loss, "pairs", "reference_free", defaults)


Advantage = Callable[..., Array]  # rewards f32[B, K] -> advantages f32[B, K]


def _group(
    loss: Callable[..., Loss], advantage: Advantage = group_advantages, **defaults: Any
) -> Published:
    return Published(loss, "prompts", "group", defaults, advantage=advantage)


def _reward(
    loss: Callable[..., Loss], kind: Kind, form: Form = "completion", **defaults: Any
) -> Published:
    return Published(loss, kind, form, defaults, trains="reward")


def _log_odds(loss: Callable[..., Loss], kind: Kind, **defaults: Any) -> Published:
    return replace(_reward(loss, kind, **defaults), log_odds=True)


def _adversarial(
    reward: Callable[..., Array], form: Form = "discriminator",
    loss: Callable[..., Loss] = rating.binary_cross_entropy, **defaults: Any,
) -> Published:  # fmt: skip
    return Published(loss, "demonstrations", form, defaults, trains="both", reward=reward)


def _centred(reward: Array) -> Array:
    return group_advantages(reward, scale=False)


def _best(reward: Array) -> Array:
    return best(reward).astype(jnp.float32)


_CLIP = (0.2, 0.2)  # (ε_low, ε_high) of PPO's paper, and of those that name no other
_KL = 0.04  # weight of GRPO's penalty in its paper
_GRM = {"alpha": 0.01, "beta": 0.1, "label_smoothing": 0.0, "centering": 0.01}

_ROWS = {
    # demonstrations
    "sft": Published(demonstration.nll, "demonstrations", "likelihood"),
    "iq_learn": Published(
        soft_q.iq_learn_lm, "demonstrations", "soft_q", {"lam": 0.01, "discount": 1.0}
    ),
    # pairs, against a reference
    "dpo": _pairs(direct.dpo, "sigmoid", beta=0.1),
    "ipo": _pairs(direct.ipo, tau=0.1),
    "slic": _pairs(direct_named.slic, "hinge", beta=0.1),
    "cdpo": _pairs(direct_named.cdpo, beta=0.1, label_smoothing=0.1),
    "robust_dpo": _pairs(direct_named.robust_dpo, "robust", beta=0.1, flip_rate=0.1),
    "ropo": _pairs(direct_named.ropo, beta=0.1, alpha=14.0),
    "exo": _pairs(direct_named.exo, "exo_pair", beta=0.1, epsilon=1e-3),
    "discopop": _pairs(direct_named.discopop, beta=0.05, temperature=0.05),
    "ld_dpo": _pairs(direct_named.ld_dpo, beta=0.1, alpha=0.5),
    "f_dpo": _pairs(direct_named.f_dpo, beta=0.1, alpha=0.5),
    "js_dpo": _pairs(direct_named.js_dpo, beta=0.1),
    "ln_dpo": _pairs(direct_named.ln_dpo, "sigmoid_norm", beta=5.0),
    "r_dpo": _pairs(direct_variants.r_dpo, beta=0.1, alpha=0.01),
    "dpop": _pairs(direct_variants.dpop, beta=0.3, lam=50.0),
    "irpo": _pairs(direct_named.irpo, beta=0.1, alpha=1.0),
    "rpo": Published(
        direct_variants.rpo,
        "pairs",
        "reference",
        {"beta": 0.1, "alpha": 0.005},
        fixed={"likelihood": log_ratio},
    ),
    "nca": _pairs(direct_variants.nca, "nca_pair", beta=0.01),
    "apo_zero": _pairs(direct_variants.apo_zero, beta=0.1),
    "apo_down": _pairs(direct_variants.apo_down, beta=0.1),
    "sppo_hard": _pairs(direct_named.sppo_hard, eta=1000.0),
    "aot": _pairs(transport.aot, beta=0.1),
    "bco_pair": _pairs(unpaired.bco_pair, beta=0.1),
    "kto_pair": Published(
        unpaired.kto_pair, "pairs", "mismatched_kl", {"beta": 0.1, "good": 1.0, "bad": 1.0}
    ),
    "tdpo": Published(direct_variants.tdpo, "pairs", "token_kl", {"beta": 0.1, "alpha": 0.5}),
    "wpo": Published(direct_variants.wpo, "pairs", "on_policy_weight", {"beta": 0.01, "cap": 1.0}),
    # pairs, without a reference
    "simpo": _free(reference_free.simpo, beta=2.0, gamma=1.0),
    "alphapo": _free(reference_free.alphapo, beta=2.5, gamma=0.25, alpha=0.25),
    "cpo": _free(reference_free.cpo, beta=0.1, alpha=1.0),
    "orpo": _free(reference_free.orpo, lam=0.1),
    # ratings: good or bad
    "kto": Published(
        unpaired.kto, "ratings", "mismatched_kl", {"beta": 0.1, "good": 1.0, "bad": 1.0}
    ),
    "bco": Published(unpaired.bco, "ratings", "reference", {"beta": 0.1, "good": 1.0, "bad": 1.0}),
    "aot_unpaired": Published(transport.aot_unpaired, "ratings", "reference", {"beta": 0.1}),
    # rankings and scores
    "pl_dpo": Published(listwise.pl_dpo, "rankings", "reference", {"beta": 0.1}),
    "lipo": Published(listwise.lipo, "scored", "reference", {"beta": 0.05}),
    "tpo": Published(
        listwise.tpo,
        "rankings",
        "reference_free",
        {"beta": 0.01, "gamma": 0.0, "alpha": 1.0},
        fixed={"score": log_ratio},
    ),
    "tpo_l": Published(
        listwise.tpo,
        "rankings",
        "reference_free",
        {"beta": 2.0, "gamma": 0.5, "alpha": 1.0},
        fixed={"score": mean_log_ratio},
    ),
    # outcomes, an implicit reward of steps
    "implicit_process": Published(process.implicit_process, "ratings", "reference", {"beta": 0.05}),
    # what the policy samples
    "grpo": _group(policy.grpo, clip=_CLIP, beta=_KL),
    "dr_grpo": _group(policy.dr_grpo, _centred, clip=_CLIP, beta=0.0),
    "dapo": _group(policy.dapo, clip=(0.2, 0.28), beta=0.0),
    "gspo": _group(policy.gspo, clip=(3e-4, 4e-4), beta=0.0),
    "luspo": _group(policy_variants.luspo, clip=(3e-4, 4e-4), beta=0.0),
    "gmpo": _group(policy.gmpo, clip=(0.4, 0.4), beta=0.0),
    "cispo": _group(policy.cispo, clip=(1.0, 4.0), beta=0.0),
    "sapo": _group(policy_variants.sapo, positive=1.0, negative=1.05, beta=0.0),
    "vespo": _group(policy_variants.vespo, positive=(2.0, 3.0), negative=(3.0, 2.0), beta=0.0),
    "rloo": _group(policy.reinforce, leave_one_out, beta=_KL),
    "maxrl": _group(policy.reinforce, maxrl_advantages, beta=0.0),
    "pkpo": _group(policy.reinforce, pass_at_k_advantages, k=2, beta=0.0),
    "otb": Published(policy.reinforce, "prompts", "token_baseline", {"beta": 0.0}),
    "raft": _group(policy.weighted_sft, _best, beta=0.0),
    "reinforce_plus_plus": Published(
        policy.reinforce_plus_plus, "prompts", "whitened", {"clip": _CLIP, "beta": 0.01}
    ),
    "ppo": Published(
        policy.ppo,
        "prompts",
        "critic",
        {"clip": _CLIP, "beta": 0.05, "value_clip": 0.2, "value_weight": 0.1},
    ),
    "remax": Published(policy.reinforce, "prompts", "greedy", {"beta": _KL}),
    "nash_md": Published(
        policy.reinforce, "prompts", "mixture", {"tau": 0.01, "share": 0.125, "opponents": 1}
    ),
    "online_dpo": Published(direct.dpo, "prompts", "judged", {"beta": 0.1}),
    "xpo": Published(direct_variants.xpo, "prompts", "exploring", {"beta": 0.1, "alpha": 1e-5}),
    "sppo": Published(direct_variants.sppo, "prompts", "self_play", {"eta": 1000.0}),
    # what the policy samples, and a teacher
    "gkd": Published(distillation.gkd, "prompts", "divergence", {"beta": 1.0}),
    "distil": Published(distillation.distil, "prompts", "taught", {"discount": 0.0}),
    # rewards
    "bradley_terry": _log_odds(
        preference.bradley_terry, "pairs", label_smoothing=0.0, centering=0.01
    ),
    "grm_sft": _log_odds(regularisation.grm_sft, "pairs", form="regularised", **_GRM),
    "grm_dpo": _log_odds(regularisation.grm_dpo, "pairs", form="regularised", **_GRM),
    "thurstone": _reward(preference.thurstone, "pairs"),
    "robust_bradley_terry": _log_odds(preference.robust_bradley_terry, "pairs", flip_rate=0.1),
    "symmetric_pairwise": _reward(preference.symmetric_pairwise, "pairs"),
    "order_classification": _reward(preference.order_classification, "pairs"),
    "gaussian": _reward(preference.gaussian, "pairs", "distribution"),
    "binary_cross_entropy": _reward(rating.binary_cross_entropy, "ratings"),
    "regression": Published(
        rating.regression, "ratings", "completion", trains="reward", scale="number"
    ),
    "ordinal": Published(rating.ordinal, "ratings", "cutpoints", trains="reward", scale="category"),
    "token_verifier": _reward(outcome.token_verifier, "ratings", "token"),
    "plackett_luce": _log_odds(ranking.plackett_luce, "rankings"),
    "all_pairs": _log_odds(ranking.all_pairs, "rankings"),
    "process_cross_entropy": _reward(process.process_cross_entropy, "steps", "token"),
    # a reward from demonstrations, and a policy for it
    "gail": _adversarial(divergence.gail, b=0.5),
    "fairl": _adversarial(divergence.fairl),
    "f_max": _adversarial(divergence.f_max, alpha=0.5),
    "airl": _adversarial(adversarial.airl, "airl"),
    "r_airl": _adversarial(adversarial.airl, "airl_token"),
    "raro": _adversarial(adversarial.raro, "critic_of_pairs", preference.bradley_terry),
    # a policy alone, and the reward in it
    "spin": Published(
        direct.dpo, "demonstrations", "opponent", {"beta": 0.1, "every": 50}, trains="both"
    ),
    "iq_learn_online": Published(
        soft_q.iq_learn_online,
        "demonstrations",
        "own_soft_q",
        {"alpha": 25.0, "discount": 1.0},
        trains="both",
    ),
}
LOSSES: Mapping[str, Published] = MappingProxyType(_ROWS)
"""The losses by name."""


def _spellings() -> dict[str, str]:
    """Every spelling of a name, TRL's and with hyphens among them -> the name."""
    known = {name: name for name in LOSSES}
    known |= {row.trl: name for name, row in LOSSES.items() if row.trl}
    return known | {spelt.replace("_", "-"): name for spelt, name in known.items()}


def canonical(name: str) -> str:
    """The name of the table that a spelling means.

    Raises:
        InputError: there is none; with the nearest names.

    Example:
        >>> canonical("exo_pair"), canonical("Apo-Zero")
        ('exo', 'apo_zero')
    """
    known = _spellings()
    found = known.get(name.lower())
    if found is None:
        close = difflib.get_close_matches(name.lower(), known, n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise InputError(
            f"loss: no published loss is called {name!r}; {hint}a function of your own is "
            "FILE.py:FUNCTION or MODULE:FUNCTION"
        )
    return found


def look_up(name: str) -> Published:
    """The row of a spelling, see `canonical`.

    Raises:
        InputError: there is none.
    """
    return LOSSES[canonical(name)]


def of_function(loss: Callable[..., Loss]) -> Published:
    """A row for a loss that is in no table, told by the names of its arguments.

    `(logp, ref_logp, batch, *, …)` and `(logp, batch, *, …)` learn from pairs,
    `(logp, group, *, advantage, ref_logp, …)` from samples, `(reward, batch, *, …)` is a loss
    of rewards of pairs. Keywords with defaults are hyper-parameters.

    Raises:
        InputError: the arguments are none of these, or a keyword has no default.
    """
    parameters = inspect.signature(loss).parameters.values()
    first = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    given = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    name = getattr(loss, "__qualname__", repr(loss))
    if first[:2] == ["logp", "group"]:
        given = {k: v for k, v in given.items() if k not in ("advantage", "ref_logp")}
        row = Published(loss, "prompts", "group", given, advantage=group_advantages)
    elif first == ["logp", "ref_logp", "batch"]:
        row = Published(loss, "pairs", "reference", given)
    elif first == ["logp", "batch"]:
        row = Published(loss, "pairs", "reference_free", given)
    elif first == ["reward", "batch"]:
        row = Published(loss, "pairs", "completion", given, trains="reward")
    else:
        raise InputError(
            f"loss: {name} takes ({', '.join(first)}); write it as (logp, ref_logp, batch), "
            "(logp, batch), (logp, group, *, advantage, ref_logp) or (reward, batch)"
        )
    missing = [key for key, value in given.items() if value is inspect.Parameter.empty]
    if missing:
        raise InputError(f"loss: {name} gives {missing[0]} no default; write one, {missing[0]}=…")
    return row
