"""Direct alignment: rows of the table of losses."""

from types import SimpleNamespace

import numpy as np

from irl_jax.losses.direct import dpo, ipo
from irl_jax.losses.direct_named import (
    cdpo,
    discopop,
    exo,
    f_dpo,
    irpo,
    js_dpo,
    ld_dpo,
    ln_dpo,
    robust_dpo,
    ropo,
    slic,
    sppo_hard,
)
from irl_jax.losses.direct_variants import (
    apo_down,
    apo_zero,
    dpop,
    nca,
    r_dpo,
    rpo,
    sppo,
    tdpo,
    wpo,
    xpo,
)
from irl_jax.losses.listwise import lambda_pairs, lipo, pl_dpo, tpo
from irl_jax.losses.reference_free import alphapo, cpo, orpo, simpo
from irl_jax.losses.scores import mean_log_ratio
from irl_jax.losses.unpaired import bco, kto, kto_pair
from irl_jax.types import Group, Preference, Ranking, Rating
from tests.losses.case import Case
from tests.oracles import direct as oracles
from tests.oracles.losses import plackett_luce

PAIRS = {
    "batch": Preference,
    "args": {"logp": "B2T", "ref_logp": "B2T"},
    "reads": ("mask", "margin", "weight"),
}
FREE = PAIRS | {"args": {"logp": "B2T"}}
RANKINGS = {
    "batch": Ranking,
    "args": {"logp": "BKT", "ref_logp": "BKT"},
    "reads": ("mask", "count", "weight"),
}
RATINGS = {
    "batch": Rating,
    "args": {"logp": "BT", "ref_logp": "BT"},
    "reads": ("mask", "score", "weight"),
}


def pl_dpo_oracle(logp, ref_logp, batch, *, beta):
    return plackett_luce(oracles.rewards(logp, ref_logp, batch, beta), batch)


def lipo_oracle(logp, ref_logp, batch, *, beta):
    """Row by row, of the responses that have a token."""
    found = []
    for row, mask in enumerate(batch.mask.any(-1)):
        one = SimpleNamespace(mask=batch.mask[row : row + 1, mask])
        each = (x[row : row + 1, mask] for x in (logp, ref_logp))
        ranked = SimpleNamespace(count=[mask.sum()], weight=[1.0])
        reward = oracles.rewards(*each, one, beta)
        found.append(oracles.lambda_pairs(reward, ranked, grade=batch.reward[row : row + 1, mask]))
    add = lambda x: tuple(map(sum, zip(*x, strict=True)))
    total, weight, metrics = zip(*found, strict=True)
    return sum(total), sum(weight), {k: add([m[k] for m in metrics]) for k in metrics[0]}


def kto_pair_oracle(logp, ref_logp, batch, **params):
    """Both sides of every pair as responses of their own."""
    ratings = SimpleNamespace(
        mask=np.concatenate([batch.mask[:, 0], batch.mask[:, 1]]),
        score=np.repeat([1.0, 0.0], len(batch.weight)),
        weight=np.concatenate([batch.weight, batch.weight]),
    )
    each = [np.concatenate([x[:, 0], x[:, 1]]) for x in (logp, ref_logp)]
    return oracles.kto(*each, ratings, **params)


DIRECT = [
    Case("dpo", dpo, oracles.dpo, **PAIRS, params={"beta": 0.3}),
    Case("slic", slic, oracles.hinge, **PAIRS, params={"beta": 0.3}),
    Case("cdpo", cdpo, oracles.dpo, **PAIRS, params={"beta": 0.3, "label_smoothing": 0.2}),
    Case(
        "robust_dpo",
        robust_dpo,
        oracles.robust_dpo,
        **PAIRS,
        params={"beta": 0.3, "flip_rate": 0.2},
    ),
    Case("ropo", ropo, oracles.ropo, **PAIRS, params={"beta": 0.3, "alpha": 6.0}),
    Case("exo", exo, oracles.exo, **PAIRS, params={"beta": 0.3, "epsilon": 0.1}),
    Case(
        "discopop",
        discopop,
        oracles.discopop,
        **PAIRS,
        params={"beta": 0.3, "temperature": 0.5},
    ),
    Case("ld_dpo", ld_dpo, oracles.ld_dpo, **PAIRS, params={"beta": 0.3, "alpha": 0.4}),
    Case("f_dpo", f_dpo, oracles.f_dpo, **PAIRS, params={"beta": 0.3, "alpha": 0.5}),
    Case("js_dpo", js_dpo, oracles.js_dpo, **PAIRS, params={"beta": 0.3}),
    Case("ln_dpo", ln_dpo, oracles.ln_dpo, **PAIRS, params={"beta": 0.3}),
    Case("ipo", ipo, oracles.ipo, **PAIRS, params={"tau": 0.4}),
    Case("simpo", simpo, oracles.simpo, **FREE, params={"beta": 2.0, "gamma": 0.5}),
    Case("orpo", orpo, oracles.orpo, **FREE, params={"lam": 0.3}),
    Case("r_dpo", r_dpo, oracles.r_dpo, **PAIRS, params={"beta": 0.3, "alpha": 0.05}),
    Case("dpop", dpop, oracles.dpop, **PAIRS, params={"beta": 0.3, "lam": 5.0}),
    Case(
        "rpo",
        rpo,
        oracles.rpo,
        **PAIRS,
        params={"beta": 0.3, "alpha": 0.7, "likelihood": mean_log_ratio},
        oracle_params={"beta": 0.3, "alpha": 0.7, "per_token": True},
    ),
    Case(
        "irpo",
        irpo,
        oracles.rpo,
        **PAIRS,
        params={"beta": 0.3, "alpha": 0.7},
        oracle_params={"beta": 0.3, "alpha": 0.7, "per_token": True},
    ),
    Case(
        "sppo_hard",
        sppo_hard,
        lambda *arrays, eta: oracles.sppo(*arrays, win=np.tile([1.0, 0.0], (99, 1)), eta=eta),
        **PAIRS,
        params={"eta": 2.0},
    ),
    Case("nca", nca, oracles.nca, **PAIRS, params={"beta": 0.3}),
    Case("apo_zero", apo_zero, oracles.apo_zero, **PAIRS, params={"beta": 0.3}),
    Case("apo_down", apo_down, oracles.apo_down, **PAIRS, params={"beta": 0.3}),
    Case("sppo", sppo, oracles.sppo, **PAIRS, keywords={"win": "B2"}, params={"eta": 2.0}),
    Case(
        "wpo",
        wpo,
        oracles.wpo,
        **PAIRS,
        keywords={"share": "B2"},
        params={"beta": 0.3},
    ),
    Case(
        "wpo-capped",
        wpo,
        oracles.wpo,
        **PAIRS,
        keywords={"share": "B2"},
        params={"beta": 0.3, "cap": 0.2},
    ),
    Case(
        "tdpo",
        tdpo,
        oracles.tdpo,
        **PAIRS | {"args": {"logp": "B2T", "kl": "B2T", "ref_logp": "B2T"}},
        params={"beta": 0.3, "alpha": 0.5},
    ),
    Case(
        "xpo",
        xpo,
        oracles.xpo,
        **PAIRS,
        keywords={"explore": "B2"},
        params={"beta": 0.3, "alpha": 0.1},
    ),
    Case("cpo", cpo, oracles.cpo, **FREE, params={"beta": 0.3, "alpha": 0.6}),
    Case(
        "alphapo",
        alphapo,
        oracles.alphapo,
        **FREE,
        params={"beta": 2.0, "gamma": 0.5, "alpha": 0.25},
    ),
    Case("bco", bco, oracles.bco, **RATINGS, params={"beta": 0.3, "delta": 0.2}),
    Case("pl_dpo", pl_dpo, pl_dpo_oracle, **RANKINGS, params={"beta": 0.3}),
    Case(
        "lipo",
        lipo,
        lipo_oracle,
        Group,
        {"logp": "BKT", "ref_logp": "BKT"},
        ("mask", "reward"),
        params={"beta": 0.3},
    ),
    Case(
        "lambda_pairs",
        lambda_pairs,
        oracles.lambda_pairs,
        Ranking,
        {"reward": "BK"},
        ("count", "weight"),
        keywords={"grade": "BK"},
    ),
    Case(
        "tpo",
        tpo,
        oracles.tpo,
        **RANKINGS | {"args": {"logp": "BKT"}},
        params={"beta": 0.5, "gamma": 0.2, "alpha": 0.8, "score": mean_log_ratio},
        oracle_params={"beta": 0.5, "gamma": 0.2, "alpha": 0.8, "per_token": True},
    ),
    Case(
        "kto",
        kto,
        oracles.kto,
        **RATINGS,
        params={"beta": 0.3, "kl": 0.7, "good": 1.2, "bad": 0.8},
    ),
    Case(
        "kto_pair",
        kto_pair,
        kto_pair_oracle,
        **PAIRS | {"reads": ("mask", "weight")},
        params={"beta": 0.3, "kl": 0.7, "good": 1.2, "bad": 0.8},
    ),
]
