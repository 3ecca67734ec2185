"""Every loss as a row of a table, and the inputs that its tests are made of.

A row says which arrays a loss reads and their axes: B rows, K completions, T
tokens (or comparisons of an annotator), M components, 2 sides. `test_every_loss.py`
does the rest, so a new loss is one row.
"""

from collections.abc import Callable
from functools import partial, wraps

import numpy as np

from irl_jax.losses.adversarial import gradient_penalty
from irl_jax.losses.demonstration import nll
from irl_jax.losses.divergence import DIVERGENCES, alpha_divergence, variational
from irl_jax.losses.inverse import causal_likelihood
from irl_jax.losses.link import ropo_link
from irl_jax.losses.mixture import intention_likelihood, mixture_likelihood
from irl_jax.losses.outcome import token_verifier
from irl_jax.losses.preference import (
    bradley_terry,
    davidson,
    gaussian,
    order_classification,
    pairwise,
    rao_kupper,
    robust_bradley_terry,
    segment_comparison,
    symmetric_pairwise,
    thurstone,
)
from irl_jax.losses.process import implicit_process, process_cross_entropy
from irl_jax.losses.ranking import all_pairs, plackett_luce
from irl_jax.losses.rating import binary_cross_entropy, ordinal, regression
from irl_jax.losses.regularisation import chosen_likelihood, grm_dpo, grm_sft
from irl_jax.types import (
    AnnotatorBatch,
    Demonstration,
    Group,
    Preference,
    Ranking,
    Rating,
    StepLabels,
    Trajectory,
)
from tests.losses.case import Case, Inputs
from tests.losses.cases_direct import DIRECT
from tests.losses.cases_distillation import DISTILLATION
from tests.losses.cases_imitation import IMITATION
from tests.losses.cases_policy import POLICY
from tests.losses.cases_prefix import PREFIX
from tests.oracles import losses as oracles

PAIR = ("margin", "weight")
RANKING = {"args": {"reward": "BK"}, "reads": ("count", "weight")}
RATING = {"args": {"reward": "B"}, "reads": ("score", "weight")}
REWARDS = {"args": {"reward": "B2"}, "reads": PAIR}


def falling(loss: Callable) -> Callable:
    """A loss of rankings that weights the K positions by scale · (K, K − 1, …, 1)."""

    def weighted(reward, batch, *, scale):
        positions = scale * np.arange(reward.shape[-1], 0.0, -1.0)
        return loss(reward, batch, position_weight=positions)

    return weighted


def logp_first(loss: Callable) -> Callable:
    """A loss of rewards and log-probs, whose gradient is wanted by the log-probs."""

    @wraps(loss)
    def swapped(logp, reward, batch, **keywords):
        return loss(reward, logp, batch, **keywords)

    return swapped


CASES = [
    Case("nll", nll, oracles.nll, Demonstration, {"logp": "BT"}, ("mask",)),
    Case(
        "causal_likelihood",
        causal_likelihood,
        oracles.causal_likelihood,
        Trajectory,
        {"logp": "BT"},
        ("mask",),
        params={"discount": 0.9},
    ),
    Case("bradley_terry", bradley_terry, oracles.bradley_terry, Preference, {"reward": "B2"}, PAIR),
    Case(
        "bradley_terry-smoothed-centred",
        bradley_terry,
        oracles.bradley_terry,
        Preference,
        {"reward": "B2"},
        PAIR,
        params={"label_smoothing": 0.1, "centering": 0.01},
    ),
    Case(
        "segment_comparison",
        segment_comparison,
        oracles.segment_comparison,
        Preference,
        {"reward": "B2T"},
        ("mask", *PAIR),
    ),
    Case(
        "thurstone",
        thurstone,
        oracles.thurstone,
        Preference,
        **REWARDS,
    ),
    Case(
        "symmetric_pairwise",
        symmetric_pairwise,
        oracles.sigmoid,
        Preference,
        **REWARDS,
    ),
    Case(
        "robust_bradley_terry",
        robust_bradley_terry,
        oracles.unbiased,
        Preference,
        **REWARDS,
        params={"flip_rate": 0.2},
    ),
    Case(
        "order_classification",
        order_classification,
        oracles.order_classification,
        Preference,
        **REWARDS,
    ),
    Case(
        "gaussian",
        gaussian,
        oracles.gaussian,
        Preference,
        {"mean": "B2", "log_variance": "B2"},
        PAIR,
    ),
    Case(
        "rao_kupper",
        rao_kupper,
        oracles.rao_kupper,
        Preference,
        **REWARDS,
        keywords={"tie": "B"},
        params={"threshold": 0.7},
    ),
    Case(
        "davidson",
        davidson,
        oracles.davidson,
        Preference,
        **REWARDS,
        keywords={"tie": "B"},
        params={"log_nu": -0.4},
    ),
    Case("plackett_luce", plackett_luce, oracles.plackett_luce, Ranking, **RANKING),
    Case(
        "plackett_luce-position",
        falling(plackett_luce),
        falling(oracles.plackett_luce),
        Ranking,
        **RANKING,
        params={"scale": 0.5},
    ),
    Case("all_pairs", all_pairs, oracles.all_pairs, Ranking, **RANKING),
    Case("regression", regression, oracles.regression, Rating, **RATING),
    Case(
        "binary_cross_entropy", binary_cross_entropy, oracles.binary_cross_entropy, Rating, **RATING
    ),
    Case(
        "ordinal",
        ordinal,
        oracles.ordinal,
        Rating,
        **RATING,
        params={"cutpoints": np.array([-0.8, 0.3, 0.9])},
    ),
    *(
        Case(
            f"variational-{divergence.name}",
            variational,
            oracles.variational,
            Rating,
            {"logit": "B"},
            RATING["reads"],
            params={"divergence": divergence},
            oracle_params={"divergence": divergence.name},
        )
        for divergence in (*DIVERGENCES, alpha_divergence(0.5))
    ),
    Case(
        "gradient_penalty",
        gradient_penalty,
        oracles.gradient_penalty,
        Rating,
        {"slope": "BM"},
        ("weight",),
        params={"target": 1.0},
    ),
    Case(
        "ropo",
        lambda reward, batch, alpha: pairwise(reward, batch, link=ropo_link(alpha)),
        oracles.ropo,
        Preference,
        **REWARDS,
        params={"alpha": 6.0},
    ),
    Case(
        "chosen_likelihood",
        chosen_likelihood,
        oracles.chosen_likelihood,
        Preference,
        {"logp": "B2T"},
        ("mask", *PAIR),
        params={"beta": 0.3},
    ),
    *(
        Case(
            loss.__name__,
            logp_first(loss),
            partial(oracles.regularised, text=text),
            Preference,
            {"logp": "B2T", "reward": "B2"},
            ("mask", *PAIR),
            params={"alpha": 0.2, "beta": 0.3, "label_smoothing": 0.1, "centering": 0.2},
        )
        for loss, text in (
            (grm_sft, oracles.chosen_likelihood),
            (grm_dpo, oracles.dpo_without_reference),
        )
    ),
    Case(
        "token_verifier",
        token_verifier,
        oracles.token_verifier,
        Rating,
        {"logits": "BT"},
        ("mask", "score", "weight"),
    ),
    Case(
        "process_cross_entropy",
        process_cross_entropy,
        oracles.process_cross_entropy,
        StepLabels,
        {"reward": "BT"},
        ("mask", "end", "label", "weight"),
    ),
    Case(
        "implicit_process",
        implicit_process,
        oracles.implicit_process,
        Rating,
        {"logp": "BT", "ref_logp": "BT"},
        ("mask", "score", "weight"),
        params={"beta": 0.3},
    ),
    Case(
        "mixture_likelihood",
        mixture_likelihood,
        oracles.mixture,
        AnnotatorBatch,
        {"reward": "BT2M"},
        ("mask", "weight"),
        params={"logits": np.array([0.4, -0.3])},
    ),
    Case(
        "intention_likelihood",
        intention_likelihood,
        oracles.intentions,
        Trajectory,
        {"logp": "BTM"},
        ("mask",),
        params={"logits": np.array([0.4, -0.3])},
    ),
    *DIRECT,
    *DISTILLATION,
    *IMITATION,
    *POLICY,
    *PREFIX,
]


def draw(case: Case, seed: int = 0, *, b: int = 3, k: int = 3, t: int = 4) -> Inputs:
    """Random inputs in float64; the first row has tokens and a positive weight."""
    rng = np.random.default_rng(seed)
    sizes = {"B": b, "K": k, "T": t, "M": 2, "2": 2}
    inputs: Inputs = {}
    for name, axes in case.axes.items():
        shape = [sizes[axis] for axis in axes]
        match name.removeprefix("batch."):
            case "context":
                inputs[name] = None
            case "mask" if case.batch is Demonstration:
                inputs[name] = rng.random(shape) < 0.6
                inputs[name][0, -1] = True
            case "mask":
                length = rng.integers(0, t + 1, shape[:-1])
                length[0] = rng.integers(1, t + 1, shape[1:-1])
                inputs[name] = np.arange(t) < length[..., None]
            case "count":
                inputs[name] = rng.integers(0, k + 1, shape).astype(np.int32)
                inputs[name][0] = k
            case "score":
                low, high = (0, 4) if case.loss in (ordinal, regression) else (0, 2)
                inputs[name] = rng.integers(low, high, shape).astype(np.float64)
            case "tie" | "end" | "explore" | "shown":
                inputs[name] = rng.random(shape) < 0.5
            case "label":
                inputs[name] = rng.random(shape)
            case "weight":
                inputs[name] = rng.uniform(0.5, 2.0, shape)
            case "logp" | "ref_logp":
                inputs[name] = -1.5 + 0.4 * rng.standard_normal(shape)
            case "tokens" | "action" | "segment":
                inputs[name] = rng.integers(1, 9, shape).astype(np.int32)
            case "terminated":
                inputs[name] = rng.random(shape) < 0.5
            case _:
                inputs[name] = rng.standard_normal(shape)
    return inputs


def single(inputs: Inputs) -> Inputs:
    """The inputs with floats in f32."""
    return {
        k: v.astype(np.float32) if v is not None and v.dtype == np.float64 else v
        for k, v in inputs.items()
    }


def pad(case: Case, inputs: Inputs, *, rows: int, columns: int) -> Inputs:
    """The inputs with empty rows and columns appended."""

    def widths(axes: str) -> list[tuple[int, int]]:
        return [(0, {"B": rows, "T": columns}.get(axis, 0)) for axis in axes]

    return {
        name: None if x is None else np.pad(x, widths(case.axes[name]))
        for name, x in inputs.items()
    }


def unused(case: Case, inputs: Inputs, name: str) -> np.ndarray:
    """bool, true on the elements of an input that must not matter."""
    axes, mask = case.axes[name], inputs["batch.mask"]
    if case.batch is AnnotatorBatch:
        made = mask & (inputs["batch.weight"] > 0)[:, None]
        return np.broadcast_to(~made[..., None, None], inputs[name].shape)
    if "T" in axes:
        return np.broadcast_to(~mask[..., None], inputs[name].shape) if "M" in axes else ~mask
    if case.batch in (Group, Trajectory):
        return ~mask.any(-1)
    empty = inputs["batch.weight"] == 0
    if case.batch is Ranking:
        count = np.where(empty | (inputs["batch.count"] < 2), 0, inputs["batch.count"])
        ranked = np.arange(inputs[case.first].shape[1]) < count[:, None]
        return ~ranked if "K" in axes else count == 0
    return np.broadcast_to(empty.reshape(-1, *[1] * (len(axes) - 1)), inputs[name].shape)


def spoil(case: Case, inputs: Inputs, fill: float) -> Inputs:
    """The inputs with floats that must not matter overwritten."""
    out = dict(inputs)
    for name, x in inputs.items():
        if x is None or x.dtype.kind != "f" or name == "batch.weight":
            continue
        out[name] = np.where(unused(case, inputs, name), fill, x).astype(x.dtype)
    return out
