"""Rows of `cases.CASES`: distillation."""

from functools import partial, wraps

from irl_jax.losses.distillation import distil, gkd, minillm, sdpo
from irl_jax.types import Group
from tests.losses.case import Case
from tests.oracles import distillation as oracles

TEACHER = {"teacher_logp": "BKT"}


@wraps(minillm)
def summed(*arrays, **keywords):
    """MiniLLM without the length normalisation."""
    return minillm(*arrays, mean=False, **keywords)


DISTILLATION = [
    Case("gkd", gkd, oracles.gkd, Group, {"divergence": "BKT"}, ("mask",)),
    Case(
        "sdpo",
        sdpo,
        oracles.sdpo,
        Group,
        {"divergence": "BKT"},
        ("mask",),
        keywords={"shown": "BK"},
    ),
    Case(
        "distil",
        distil,
        oracles.distil,
        Group,
        {"logp": "BKT"},
        ("mask", "logp"),
        keywords=TEACHER,
        params={"discount": 0.7},
    ),
    *(
        Case(
            name,
            loss,
            oracle,
            Group,
            {"logp": "BKT", "divergence": "BKT"},
            ("mask", "logp"),
            keywords=TEACHER,
            params={"clip": (0.2, 0.3)},
        )
        for name, loss, oracle in (
            ("minillm", minillm, oracles.minillm),
            ("minillm-sum", summed, partial(oracles.minillm, mean=False)),
        )
    ),
]
