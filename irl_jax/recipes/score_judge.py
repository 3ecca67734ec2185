"""What the judgements of `irl-jax score` tell beside the rewards: places, gaps, criteria."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from irl_jax.data.evaluation import EvaluationRecord
from irl_jax.eval.intervals import bootstrap
from irl_jax.eval.ranking import pair_accuracy
from irl_jax.recipes.judge_scorers import FILE, JUDGES
from irl_jax.recipes.score_config import ScoreConfig
from irl_jax.report.page import section, table
from irl_jax.rewards.rubrics import read_rubric
from irl_jax.train.run import RunDirectory, read_rows

PLACES = {
    "changed": "another verdict with the responses swapped",
    "first": "the place shown first wins in both orders",
    "second": "the place shown second wins in both orders",
}


def judge_measures(
    config: ScoreConfig,
    run: RunDirectory,
    records: Sequence[EvaluationRecord],
    prompt: np.ndarray,
) -> dict[str, Any] | None:
    """What the run's judgements tell of the judge; None where there was none.

    Args:
        config: of the scoring.
        run: whose `judgements.jsonl` is read.
        records: those that were scored.
        prompt: number of each record's prompt.
    """
    if config.reward not in JUDGES:
        return None
    rows = read_rows(run.path / FILE)
    clusters = prompt[[row["record"] for row in rows]]
    if config.rubric is not None:
        return {"criteria": criteria_measures(config.rubric, rows, records, prompt)}
    found: dict[str, Any] = {"questions": len(rows)}
    if config.judge.asks != "rating":
        found |= places(ahead_of(rows), clusters[::2])
    if "said" in rows[0]:
        silent = np.array([[said is None for said in row["said"]] for row in rows])
        found |= {
            "critiques": silent.size,
            "unread": int(silent.sum()),
            "unread_share": bootstrap(silent.mean(1), clusters=clusters),
        }
    return found


def ahead_of(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    """By how much the place shown first is ahead in each order of a pair, f64[P, 2].

    Of critiques it is the share of wins less ½, of a verdict's token log-odds (nats).
    """
    if "log_odds" in rows[0]:
        ahead = [row["log_odds"] for row in rows]
    else:
        ahead = [np.mean([0.5 if x is None else x for x in row["said"]]) - 0.5 for row in rows]
    return np.reshape(ahead, (-1, 2))


def places(ahead: np.ndarray, clusters: np.ndarray) -> dict[str, Any]:
    """How often the order in which a pair is shown decides, `PLACES` -> interval over prompts.

    Args:
        ahead: f64[P, 2], by how much the place shown first is ahead, as given and swapped.
        clusters: i64[P], number of the prompt of each pair.

    Reference: Zheng et al. 2023, "Judging LLM-as-a-judge with MT-Bench and Chatbot Arena",
    arXiv 2306.05685 (consistency, biased toward first).
    """
    sign = np.sign(ahead)
    measured = {
        "changed": sign[:, 0] != -sign[:, 1],
        "first": (sign > 0).all(1),
        "second": (sign < 0).all(1),
    }
    return {name: bootstrap(values, clusters=clusters) for name, values in measured.items()}


def criteria_measures(
    rubric: Path,
    rows: Sequence[dict[str, Any]],
    records: Sequence[EvaluationRecord],
    prompt: np.ndarray,
) -> dict[str, dict[str, Any]]:
    """Name of a criterion -> its weight, its mean, and the pairs that it alone orders right."""
    met = {(row["record"], row["shown"][0]): row["criteria"] for row in rows}
    own = [(i, k) for i, record in enumerate(records) for k in range(len(record.responses))]
    pairs = [(i, pair) for i, record in enumerate(records) for pair in record.pairs]
    clusters = prompt[[i for i, _ in pairs]]
    mean = np.mean([met[place] for place in own], axis=0)
    sides = np.array([[met[i, k] for k in pair] for i, pair in pairs])
    found = {}
    for n, criterion in enumerate(read_rubric(rubric)):
        signed = np.sign(criterion.weight) * sides[:, :, n]
        found[criterion.name] = {
            "weight": criterion.weight,
            "mean": float(mean[n]),
            "accuracy": pair_accuracy(signed, clusters=clusters),
        }
    return found


def judge_rows(found: dict[str, Any]) -> dict[str, Any]:
    """The lines of the terminal."""
    rows = {words: found[name] for name, words in PLACES.items() if name in found}
    if "unread" in found:
        rows[f"critiques without a verdict, {found['unread']} of"] = found["critiques"]
    if "criteria" in found:
        rows |= {f"accuracy of {name}": row["accuracy"] for name, row in found["criteria"].items()}
    return rows


def judge_section(found: dict[str, Any]) -> Markup:
    """What the judge said, as a section of the report."""
    if criteria := found.get("criteria"):
        heads = ["criterion", "weight", "mean probability", "pairs in order by it alone"]
        return section(
            "Criteria",
            table(
                heads,
                {k: [r[n] for n in ("weight", "mean", "accuracy")] for k, r in criteria.items()},
            ),
            "The reward is the sum of weights times probabilities over the sum of weights above 0. "
            "A criterion that orders pairs by chance tells nothing of these comparisons.",
        )
    rows = [[words, found[name]] for name, words in PLACES.items() if name in found]
    said = [f"{found['questions']} questions were asked."]
    if "unread" in found:
        rows.append(["critiques without a verdict", found["unread_share"]])
        said.append(
            f"Of {found['critiques']} critiques {found['unread']} had no verdict that could be "
            "read; they count as ties, or as the middle of the scale."
        )
    if "changed" in found:
        said.append(
            "Every two responses were shown in both orders, and both count alike, so that a liking "
            "for a place takes no side; it costs certainty. A tie in one order alone is a change."
        )
    return section("The judge", table(["share of pairs or critiques", ""], rows), " ".join(said))
