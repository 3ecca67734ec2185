"""Rows of `cases.CASES`: imitation by a soft Q, by occupancies, by a posterior of the reward."""

from irl_jax.losses.divergence import JENSEN_SHANNON
from irl_jax.losses.inverse import variational_reward
from irl_jax.losses.matching import f_irl
from irl_jax.losses.soft_q import (
    iq_learn,
    iq_learn_lm,
    iq_learn_online,
    phi_chi_square,
    phi_forward_kl,
    phi_hellinger,
    phi_jensen_shannon,
    phi_reverse_kl,
    phi_total_variation,
    sqil,
)
from irl_jax.types import Demonstration, Rating, Trajectory
from tests.losses.case import Case
from tests.oracles import losses, matching
from tests.oracles import soft_q as oracles

SOFT_Q = {"q": "BT", "value": "BT", "following": "BT"}
SCORED = ("score", "weight")

IMITATION = [
    *(
        Case(
            f"iq_learn-{name}",
            iq_learn,
            oracles.iq_learn,
            Trajectory,
            SOFT_Q,
            ("mask",),
            params={"phi": phi},
            oracle_params={"phi": name},
        )
        for name, phi in (
            ("chi-square", phi_chi_square(0.7)),
            ("total variation", phi_total_variation),
            ("forward KL", phi_forward_kl),
            ("reverse KL", phi_reverse_kl),
            ("Hellinger", phi_hellinger),
            ("Jensen-Shannon", phi_jensen_shannon),
        )
    ),
    Case(
        "iq_learn_lm",
        iq_learn_lm,
        oracles.iq_learn_lm,
        Demonstration,
        {"q": "BT", "value": "BT"},
        ("mask",),
        params={"lam": 0.3, "discount": 0.9},
    ),
    Case(
        "iq_learn_online",
        iq_learn_online,
        oracles.iq_learn_online,
        Rating,
        {"q": "B", "value": "B", "following": "B"},
        SCORED,
        params={"alpha": 0.7},
    ),
    Case("sqil", sqil, oracles.sqil, Rating, {"q": "B", "following": "B"}, SCORED),
    Case(
        "f_irl",
        f_irl,
        matching.f_irl,
        Trajectory,
        {"reward": "BT"},
        ("mask",),
        keywords={"logit": "BT"},
        params={"divergence": JENSEN_SHANNON, "temperature": 0.7, "baseline": 0.2},
        oracle_params={"divergence": "Jensen-Shannon", "temperature": 0.7, "baseline": 0.2},
    ),
    Case(
        "variational_reward",
        variational_reward,
        losses.variational_reward,
        Trajectory,
        {"logp": "BT", "implied": "BT", "mean": "BT", "log_variance": "BT"},
        ("mask",),
        params={"multiplier": 0.7},
    ),
]
