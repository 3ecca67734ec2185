"""What the quickstart measures and shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from irl_jax.eval.best_of_n import Curve, curve
from irl_jax.eval.intervals import Interval, bootstrap, paired_difference
from irl_jax.eval.kl import unmoved
from irl_jax.eval.ranking import pair_accuracy, spearman, within_prompt
from irl_jax.recipes.movement import policy_kl
from irl_jax.report.page import (
    Sample,
    card,
    cards,
    figure,
    figures,
    gain_tone,
    samples,
    section,
    standstill,
)
from irl_jax.report.plots import against_kl, against_n, lines
from irl_jax.report.series import from_intervals, from_rows
from irl_jax.report.study import write_study
from irl_jax.rewards.embedding import EmbeddingReward
from irl_jax.rollout.session import Completions
from irl_jax.train.run import RunDirectory


@dataclass(frozen=True)
class Quality:
    """How good the learned reward is on held-out prompts."""

    accuracy: Interval  # share of pairs ordered as gold orders them
    spearman: Interval  # with gold, mean within prompts
    best_of_n: Curve  # gold reward of the best of n by the learned reward


def measure_reward(reward: EmbeddingReward, responses: Completions) -> Quality:
    """Pair accuracy, rank correlation and best-of-n of the ensemble's mean against gold."""
    gold = responses.values["gold"]
    learned = np.asarray(reward(jnp.asarray(responses.values["features"])).mean(0), np.float64)
    prompt, chosen, rejected = np.nonzero(gold[:, :, None] > gold[:, None, :])
    rewards = np.stack([learned[prompt, chosen], learned[prompt, rejected]], axis=1)
    clusters = np.repeat(np.arange(len(gold)), gold.shape[1])
    return Quality(
        pair_accuracy(rewards, clusters=prompt),
        within_prompt(spearman, learned.ravel(), gold.ravel(), clusters),
        curve(learned, gold),
    )


def summarise(
    before: Completions,
    after: Completions,
    reward: EmbeddingReward,
    quality: Quality,
    **numbers: Any,
) -> dict[str, Any]:
    """The results of a run, as JSON values."""
    mean = lambda responses: responses.values["gold"].mean(1)
    score = lambda responses: np.asarray(
        reward(jnp.asarray(responses.values["features"])).mean((0, 2)), np.float64
    )
    return {
        "gold_before": bootstrap(mean(before)),
        "gold_after": bootstrap(mean(after)),
        "gold_gain": paired_difference(mean(before), mean(after)),
        "learned_gain": paired_difference(score(before), score(after)),
        "kl": policy_kl(after),
        "length_before": before.length,
        "length_after": after.length,
        "pair_accuracy": quality.accuracy,
        "spearman": quality.spearman,
        "best_of_n_gain": quality.best_of_n.gain[-1],
        **numbers,
    }


def conclusion(summary: dict[str, Any], report: Path) -> str:
    """The closing lines in the terminal."""
    show = lambda name: "{:.3f} [{:.3f}, {:.3f}]".format(*summary[name])
    rows = [
        ("gold reward on held-out prompts",
         f"{summary['gold_before'][0]:.3f} -> {summary['gold_after'][0]:.3f}"),
        ("  paired difference (95 %)", show("gold_gain")),
        ("  KL to the untuned model, nats", show("kl")),
        ("reward model: pair accuracy", show("pair_accuracy")),
        ("  Spearman with gold", show("spearman")),
        ("  comparisons, mislabelled", f"{summary['pairs']}, {summary['flipped']:.1%}"),
        ("time", f"{sum(summary['seconds'].values()):.0f} s"),
        ("report", str(report)),
    ]  # fmt: skip
    lines = [f"{name:<32}  {value}" for name, value in rows]
    return "\n".join(["", *lines, *filter(None, [unmoved(Interval(*summary["kl"]))])])


def write_report(
    run: RunDirectory,
    summary: dict[str, Any],
    quality: Quality,
    prompts: Sequence[str],
    before: Completions,
    after: Completions,
) -> None:
    """Writes report.html: headline numbers, curves, samples, configuration, timings."""
    n, best = quality.best_of_n.n, quality.best_of_n
    selection = against_n(
        {
            "Gold reward of the response selected": [
                from_intervals("by gold itself (oracle)", n, best.oracle, reference=True),
                from_intervals("by the learned reward", n, best.gold, colour="blue"),
                from_intervals("at random", n, [best.random] * len(n), reference=True),
            ]
        }
    )
    rows = run.metrics()
    curves = lambda x: {
        "Learned reward (logits)": [
            from_rows(rows, "reward", stage="policy", x=x, label="learned", colour="blue")
        ],
        "Gold reward (valence, −1 to 1)": [
            from_rows(rows, "gold", stage="policy", x=x, label="gold", colour="orange")
        ],
    }
    over_time = {
        **curves("step"),
        "KL to the reference (nats a response)": [
            from_rows(rows, "kl", stage="policy", label="KL", colour="green")
        ],
    }
    gain, kl = summary["gold_gain"], summary["kl"]
    write_study(
        run,
        summary["seconds"],
        "Quickstart: from comparisons to a better policy",
        [
            section(
                "Results",
                cards(
                    card(
                        "Gold reward, held-out prompts",
                        f"{summary['gold_before'].estimate:.2f} → "
                        f"{summary['gold_after'].estimate:.2f}",
                        f"gain {gain}, paired over {len(prompts)} prompts, 95 %",
                        interval=gain,
                        tone=gain_tone(gain, kl),
                    ),
                    card(
                        "Pair accuracy of the learned reward",
                        f"{quality.accuracy.estimate:.1%}",
                        "held-out pairs ordered as gold orders them; chance is 0.5",
                        interval=quality.accuracy,
                        baseline=0.5,
                    ),
                    card(
                        "Spearman with gold, within prompts",
                        f"{quality.spearman.estimate:.2f}",
                        str(quality.spearman),
                        interval=quality.spearman,
                    ),
                    card(
                        "KL to the untuned model",
                        f"{kl.estimate:.2f}",
                        f"nats a response, {kl}",
                        interval=kl,
                    ),
                ),
                standstill(kl),
                f"Learned from {summary['pairs']} comparisons, of which the annotator mislabelled "
                f"{summary['flipped']:.0%}. A response had {summary['length_before']:.1f} tokens "
                f"before and {summary['length_after']:.1f} after.",
            ),
            section(
                "Curves",
                figures(
                    figure(lines(over_time, x="update"), "Training responses during GRPO."),
                    figure(
                        against_kl(curves("kl")),
                        "Learned and gold reward against KL: over-optimisation would show as "
                        "gold falling while the learned reward still rises.",
                    ),
                    figure(
                        selection,
                        "Best of n on held-out prompts, before any policy was trained, with "
                        "95 % intervals over prompts.",
                    ),
                ),
            ),
            section(
                "Responses to held-out prompts",
                "The first response to each prompt, not chosen by hand.",
                samples(
                    [
                        Sample(prompt, old[0], new[0], float(b[0]), float(a[0]))
                        for prompt, old, new, b, a in zip(
                            prompts,
                            before.text,
                            after.text,
                            before.values["gold"],
                            after.values["gold"],
                            strict=True,
                        )
                    ]
                ),
            ),
        ],
        subtitle="A language model answered, an annotator compared, an ensemble of reward "
        "models learned what the annotator likes, GRPO improved the model against it.",
    )
