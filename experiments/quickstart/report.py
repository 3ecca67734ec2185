"""What the quickstart measures and shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from markupsafe import Markup

from irl_jax.eval.best_of_n import Curve
from irl_jax.eval.intervals import Interval, bootstrap, paired_difference
from irl_jax.eval.kl import unmoved
from irl_jax.eval.quality import Quality
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
from irl_jax.report.values import closing
from irl_jax.rewards.embedding import EmbeddingReward
from irl_jax.rollout.session import Completions
from irl_jax.train.run import RunDirectory


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
    rows = {
        "gold reward on held-out prompts": f"{summary['gold_before'][0]:.3f} -> "
        f"{summary['gold_after'][0]:.3f}",
        "  paired difference (95 %)": summary["gold_gain"],
        "  KL to the untuned model, nats": summary["kl"],
        "reward model: pair accuracy": summary["pair_accuracy"],
        "  Spearman with gold": summary["spearman"],
        "  comparisons, mislabelled": f"{summary['pairs']}, {summary['flipped']:.1%}",
        "time": f"{sum(summary['seconds'].values()):.0f} s",
    }
    said = filter(None, [unmoved(Interval(*summary["kl"]))])
    return closing(list(rows.items()), *said, report=report)


def write_report(
    run: RunDirectory,
    summary: dict[str, Any],
    quality: Quality,
    prompts: Sequence[str],
    before: Completions,
    after: Completions,
) -> None:
    """Writes report.html: headline numbers, curves, samples, configuration, timings."""
    shown = [
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
    write_study(
        run,
        summary["seconds"],
        "Quickstart: from comparisons to a better policy",
        [
            results(summary, quality, len(prompts)),
            curves_section(run.metrics(), quality.best_of_n),
            section(
                "Responses to held-out prompts",
                "The first response to each prompt, not chosen by hand.",
                samples(shown),
            ),
        ],
        subtitle="A language model answered, and an annotator compared the answers. An ensemble "
        "of reward models learned what the annotator likes. GRPO improved the model against it.",
    )


def results(summary: dict[str, Any], quality: Quality, prompts: int) -> Markup:
    """Headline numbers."""
    gain, kl = summary["gold_gain"], summary["kl"]
    return section(
        "Results",
        cards(
            card("Gold reward, held-out prompts",
                 f"{summary['gold_before'][0]:.2f} → {summary['gold_after'][0]:.2f}",
                 f"gain {gain}, paired over {prompts} prompts, 95 %", interval=gain,
                 tone=gain_tone(gain, kl)),
            card("Pair accuracy of the learned reward", quality.accuracy,
                 "held-out pairs ordered as gold orders them; chance is 0.5", form=".1%",
                 baseline=0.5),
            card("Spearman with gold, within prompts", quality.spearman, form=".3f"),
            card("KL to the untuned model", kl, "nats a response", form=".3f"),
        ),
        standstill(kl),
        f"The reward model learned from {summary['pairs']} comparisons. The annotator mislabelled "
        f"{summary['flipped']:.0%} of them. A response had {summary['length_before']:.1f} tokens "
        f"before and {summary['length_after']:.1f} after.",
    )  # fmt: skip


def curves_section(rows: Sequence[dict[str, Any]], best: Curve) -> Markup:
    """Learned and gold reward over updates and over KL, and best-of-n."""
    drawn = lambda name, label, colour, x="step": [
        from_rows(rows, name, stage="policy", x=x, label=label, colour=colour)
    ]
    rewards = lambda x: {
        "Learned reward (logits)": drawn("reward", "learned", "blue", x),
        "Gold reward (valence, −1 to 1)": drawn("gold", "gold", "orange", x),
    }
    kl = {"KL to the reference (nats a response)": drawn("kl", "KL", "green")}
    selection = [
        from_intervals("by gold itself (oracle)", best.n, best.oracle, reference=True),
        from_intervals("by the learned reward", best.n, best.gold, colour="blue"),
        from_intervals("at random", best.n, [best.random] * len(best.n), reference=True),
    ]
    return section(
        "Curves",
        figures(
            figure(lines(rewards("step") | kl, x="update"), "Training responses during GRPO."),
            figure(
                against_kl(rewards("kl")),
                "Learned and gold reward against KL. Over-optimisation would show as gold that "
                "falls while the learned reward still rises.",
            ),
            figure(
                against_n({"Gold reward of the response selected": selection}),
                "Best of n on held-out prompts, before any policy was trained, with 95 % "
                "intervals over prompts.",
            ),
        ),
    )
