"""`irl-jax score`: how good is a reward? Comparisons, scored and looked at from every side.

The reward of a run of `irl-jax reward` or `experiments.preference_to_policy`, a published reward
model (a directory that `AutoModelForSequenceClassification` of transformers loads), a language
model as a judge (`--judge.asks`: a rating, a comparison of pairs; or a `--rubric` of criteria), or
a baseline (likelihood, length) gives every response of a file a number. The report says how often
it orders responses as people did, in each subset and over all; whether it is as sure as it is
right; how far it goes by length, or a judge by places; how edits that change no meaning move it;
and, where responses have scores, what it is worth in best-of-n.

A line of `--data` is {"prompt", "chosen", "rejected"}, with `subset` and `id` if there are any,
as strings, messages, or lists of several responses (RewardBench, RewardBench 2, HH-RLHF); or
{"prompt", "responses", "scores"}.

With `--benchmark NAME` the file is that of a published benchmark, as its publisher has it (JSON
Lines, an array, or a directory of Parquet). Its published aggregate is reported beside the rest,
with what a known model reached. NAME is rewardbench, rewardbench-2, rm-bench, judgebench,
ppe-preference or ppe-correctness; or processbench, for a process reward model's directory
(`irl_jax.recipes.step_scorer`).

Examples:
    irl-jax score --model RUN --data test.jsonl
    irl-jax score --reward judge --model DIR --data pairs.jsonl --edits 0 --judge.asks pair
    irl-jax score --model DIR --benchmark rm-bench --data total_dataset.json
    irl-jax score --model DIR --benchmark rewardbench-2 --data hf://datasets/allenai/reward-bench-2
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from irl_jax.data.benchmarks import read_benchmark
from irl_jax.data.builders import HELD_OUT, HeldOut
from irl_jax.data.chat import Message, Text
from irl_jax.data.evaluation import EvaluationRecord, read_evaluation
from irl_jax.data.jsonl import GroupRecord
from irl_jax.eval.best_of_n import curve
from irl_jax.eval.calibration import calibration_error, pair_confidence, reliability
from irl_jax.eval.edits import EDITS, edit_response
from irl_jax.eval.probes import edit_sensitivity, length_bias
from irl_jax.eval.ranking import kendall, pair_accuracy, spearman, within_prompt
from irl_jax.eval.subsets import SubsetAccuracy, all_above, by_subset, chance, mean_over_subsets
from irl_jax.eval.ties import ties
from irl_jax.files import as_json, write_atomic
from irl_jax.models.reward_files import is_model_directory
from irl_jax.recipes import score_steps
from irl_jax.recipes.judge_scorers import JUDGES, check_questions
from irl_jax.recipes.launch import Clock, kept, launch
from irl_jax.recipes.published import check_published, check_read
from irl_jax.recipes.score_benchmark import benchmark_measures
from irl_jax.recipes.score_config import PROCESSBENCH, ScoreConfig
from irl_jax.recipes.score_judge import judge_measures
from irl_jax.recipes.score_report import conclusion, write_report
from irl_jax.recipes.scorers import (
    SCORERS,
    characters,
    identity,
    in_log_odds,
    required,
    run_identity,
    run_settings,
)
from irl_jax.train.inputs import identities
from irl_jax.train.progress import Progress
from irl_jax.train.run import SHA256, RunDirectory
from irl_jax.types import InputError


@dataclass(frozen=True)
class Edited:
    """A pair of a record, and what edits make of its sides.

    Attributes:
        record: number of the record.
        pair: numbers of the better and the worse response.
        texts: edit -> both sides after it; None where it changes nothing.
    """

    record: int
    pair: tuple[int, int]
    texts: dict[str, tuple[Text | None, Text | None]]


def main(config: ScoreConfig) -> None:
    """Scores a file and reports, goes on with it, or reports what is there."""
    if config.benchmark == PROCESSBENCH:
        score_steps.main(config)
        return
    records = read(config)
    inputs = {
        "data": config.data,
        "read.tokenizer": config.read.tokenizer,
        "rubric": config.rubric,
        "judge.template": config.judge.template,
    }
    sha256 = identities(inputs) | identity(config.model, config.reward)
    if config.reward == "learned":
        check_learned(config, sha256["data"])
    elif config.reward in JUDGES:
        check_questions(config)
    launch(config, partial(experiment, config, records), conclusion, pinned={SHA256: sha256})


def check_learned(config: ScoreConfig, data: str) -> None:
    """Checks a learned reward before it is loaded, and warns of one that saw what is scored.

    Args:
        config: of the scoring.
        data: SHA-256 of what is scored.

    Raises:
        InputError: a directory is no reward model's, or is not read as `config` says.
    """
    run = Path(required(config.model, config.reward))
    if is_model_directory(run):
        check_published(run, config.read.label)
        check_read(config.read, run)
    elif not config.held_out and run_settings(run)[SHA256].get("data.path") == data:
        print(
            f"warning: {run} was trained on {config.data}; --held-out scores what it held out",
            file=sys.stderr,
        )


def read(config: ScoreConfig) -> list[EvaluationRecord]:
    """The records of the file that are scored, in their order.

    Raises:
        InputError: no file, a line that cannot be read, or too few of them.
    """
    if config.data is None:
        raise InputError("data: no file of comparisons; give one, --data comparisons.jsonl")
    if config.benchmark is not None:
        records = list(read_benchmark(config.benchmark, config.data, ties=config.ties))
    else:
        records = list(read_evaluation(config.data, ties=config.ties, scores=config.scores))
    if config.held_out:
        records = held_out_of(Path(required(config.model, config.reward)), records)
    if config.limit is not None and config.limit < len(records):
        drawn = np.random.default_rng([config.seed, 0]).permutation(len(records))
        records = [records[i] for i in sorted(drawn[: config.limit])]
    if len(np.unique(prompt_numbers([r for r in records if r.pairs]))) < 2:
        raise InputError(
            f"{config.data}: fewer than 2 prompts have responses whose order is known; give more"
        )
    return records


def held_out_of(run: Path, records: Sequence[EvaluationRecord]) -> list[EvaluationRecord]:
    """The records whose prompts a run held out, in whatever form its file had them.

    Raises:
        InputError: no finished run, or a prompt that its model's template refuses.
    """
    if is_model_directory(run):
        raise InputError(
            f"held_out: {run}: is a reward model's directory, no run that held prompts out; leave "
            "it away"
        )
    settings = run_settings(run)
    split = HeldOut(settings["data"]["held_out"], settings["seed"], run_identity(run, settings))
    found = []
    for record in records:
        try:
            if split.name(record.prompt, record.tools) == HELD_OUT:
                found.append(record)
        except InputError as error:
            raise InputError(f"{record.source}: {error}") from error
    return found


def prompt_numbers(records: Sequence[EvaluationRecord]) -> np.ndarray:
    """The number of each record's prompt, i64[N]; a string is a user's message."""
    number: dict[str, int] = {}
    as_turns = lambda text: [Message(role="user", content=text)] if isinstance(text, str) else text
    forms = [repr(as_turns(record.prompt)) for record in records]
    return np.array([number.setdefault(form, len(number)) for form in forms], int)


def edit(records: Sequence[EvaluationRecord], count: int, seed: int) -> list[Edited]:
    """Pairs of `count` records, drawn at random, after each edit; the first pair of each."""
    ordered = [i for i, record in enumerate(records) if record.pairs]
    drawn = np.random.default_rng([seed, 1]).permutation(ordered)[:count]
    found = []
    for i in sorted(int(i) for i in drawn):
        pair = records[i].pairs[0]
        sides = [records[i].responses[k] for k in pair]
        texts = {}
        for name, change in EDITS.items():
            first, second = (edit_response(change, side) for side in sides)
            texts[name] = (
                first if first != sides[0] else None,
                second if second != sides[1] else None,
            )
        found.append(Edited(i, pair, texts))
    return found


def score(
    config: ScoreConfig,
    records: Sequence[EvaluationRecord],
    edited: Sequence[Edited],
    run: RunDirectory,
    progress: Progress,
) -> tuple[list[np.ndarray], dict[str, np.ndarray]]:
    """Rewards of every response, f64[K] a record, and of edited ones, f64[E, 2] an edit.

    All of a record's texts are scored together. NaN where an edit changes nothing.
    """
    texts = [list(record.responses) for record in records]
    place: dict[tuple[str, int, int], tuple[int, int]] = {}
    for e, item in enumerate(edited):
        for name, sides in item.texts.items():
            for side, text in enumerate(sides):
                if text is not None:
                    place[name, e, side] = item.record, len(texts[item.record])
                    texts[item.record].append(text)
    groups = [
        GroupRecord(record.prompt, own, {}, record.source, record.tools)
        for record, own in zip(records, texts, strict=True)
    ]

    def make() -> dict[str, np.ndarray]:
        if config.reward in JUDGES:
            scorer = JUDGES[config.reward](config, run.path, progress)
        else:
            scorer = SCORERS[config.reward](config.model, config.read, run.path, progress)
        return {"rewards": np.concatenate(scorer(groups))}

    flat = kept(run, "rewards", make)["rewards"]
    found = np.split(flat, np.cumsum([len(own) for own in texts])[:-1])
    after = {name: np.full((len(edited), 2), np.nan) for name in EDITS}
    for (name, e, side), (record, k) in place.items():
        after[name][e, side] = found[record][k]
    own = [rewards[: len(r.responses)] for rewards, r in zip(found, records, strict=True)]
    return own, after


def experiment(
    config: ScoreConfig, records: list[EvaluationRecord], run: RunDirectory, progress: Progress
) -> None:
    """Scores, measures, reports."""
    clock = Clock(run.path / "seconds.json")
    edited = edit(records, config.edits, config.seed)
    with clock("score"):
        rewards, after = score(config, records, edited, run, progress)
    with clock("measure"):
        prompt = prompt_numbers(records)
        summary = {
            "records": len(records),
            "prompts": int(prompt.max() + 1),
            "responses": sum(map(len, rewards)),
            **(accurate := accuracies(records, rewards, prompt)),
            "ties": (tied := ties_measures(records, rewards, accurate["subsets"])),
            "benchmark": benchmark_measures(config.benchmark, records, rewards, prompt, tied),
            **pair_measures(records, rewards, prompt, log_odds=in_log_odds(config)),
            "edits": edit_measures(edited, rewards, after, prompt),
            "edited_pairs": len(edited),
            "scored": scored_measures(records, rewards, prompt),
            "judge": judge_measures(config, run, records, prompt),
        }
    rows = [
        {"id": r.id, "subset": r.subset, "chosen": r.chosen, "rewards": own.tolist()}
        for r, own in zip(records, rewards, strict=True)
    ]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomic(run.path / "scores.jsonl", lines.encode())
    summary = as_json({**summary, "seconds": clock.seconds})
    write_report(run, summary)
    run.finish(summary)


def accuracies(
    records: Sequence[EvaluationRecord], rewards: Sequence[np.ndarray], prompt: np.ndarray
) -> dict[str, Any]:
    """Accuracy by subset, over records and over subsets.

    A comparison is right where all chosen responses are above all rejected ones; of a
    record with scores it is the share of its pairs.
    """
    right, by_chance, names, clusters = [], [], [], []
    for record, own, label in zip(records, rewards, prompt, strict=True):
        pairs = record.pairs
        if not pairs:
            continue
        if record.scores is None:
            right.append(all_above(own, record.chosen))
            by_chance.append(chance(record.chosen, len(own) - record.chosen))
        else:
            right.append(np.mean([(np.sign(own[i] - own[j]) + 1) / 2 for i, j in pairs]))
            by_chance.append(0.5)
        names.append(record.subset)
        clusters.append(label)
    table = by_subset(right, by_chance, names, clusters)
    whole = by_subset(right, by_chance, ["all"] * len(right), clusters)["all"]
    return {
        "subsets": table,
        "accuracy": whole.accuracy,
        "chance": whole.chance,
        "accuracy_over_subsets": mean_over_subsets(right, names, clusters),
    }


def ties_measures(
    records: Sequence[EvaluationRecord],
    rewards: Sequence[np.ndarray],
    subsets: Mapping[str, SubsetAccuracy],
) -> dict[str, Any] | None:
    """RewardBench 2's measure of its subset Ties; None where there is no such subset.

    It is one whose every `id` is `tied:QUESTION` or `ref:QUESTION`. `over_subsets` is the
    mean over subsets with this measure in the place of that subset's accuracy.
    """
    for subset in subsets:
        own = [(r, x) for r, x in zip(records, rewards, strict=True) if r.subset == subset]
        names = [record.id.partition(":") for record, _ in own]
        forms = {form for form, colon, _ in names if colon}
        if forms != {"tied", "ref"} or not all(colon for _, colon, _ in names):
            continue
        found = ties(
            [x for _, x in own],
            [record.chosen for record, _ in own],
            [question for *_, question in names],
            [form == "tied" for form, *_ in names],
        )
        others = [v.accuracy.estimate for k, v in subsets.items() if k != subset]
        over = float(np.mean([*others, found.score.estimate]))
        return {"subset": subset, **vars(found), "over_subsets": over}
    return None


def pair_measures(
    records: Sequence[EvaluationRecord],
    rewards: Sequence[np.ndarray],
    prompt: np.ndarray,
    *,
    log_odds: bool,
) -> dict[str, Any]:
    """Accuracy, calibration and length bias over every pair whose order is known."""
    reward, length, clusters = [], [], []
    for record, own, label in zip(records, rewards, prompt, strict=True):
        size = [characters(response) for response in record.responses]
        for i, j in record.pairs:
            reward.append([own[i], own[j]])
            length.append([size[i], size[j]])
            clusters.append(label)
    sizes = np.array(length)
    uneven = np.array(clusters)[sizes[:, 0] != sizes[:, 1]]
    calibration = None
    if log_odds:
        confidence, right = pair_confidence(reward)
        calibration = {
            "error": calibration_error(confidence, right, clusters),
            "bins": reliability(confidence, right),
        }
    return {
        "pairs": len(reward),
        "pair_accuracy": pair_accuracy(reward, clusters=clusters),
        "calibration": calibration,
        "length": (length_bias(reward, sizes, clusters) if len(np.unique(uneven)) > 1 else None),
    }


def edit_measures(
    edited: Sequence[Edited],
    rewards: Sequence[np.ndarray],
    after: dict[str, np.ndarray],
    prompt: np.ndarray,
) -> dict[str, Any]:
    """Edit -> how the reward takes it; nothing where it tells no two responses apart."""
    before = np.array([rewards[e.record][list(e.pair)] for e in edited]).reshape(-1, 2)
    if not len(before) or (before[:, 0] == before[:, 1]).all():
        return {}
    clusters = prompt[[e.record for e in edited]]
    return {
        name: edit_sensitivity(before, values, np.isfinite(values), clusters)
        for name, values in after.items()
    }


def scored_measures(
    records: Sequence[EvaluationRecord], rewards: Sequence[np.ndarray], prompt: np.ndarray
) -> dict[str, Any] | None:
    """Rank correlation and best-of-n over records with scores; None if too few have any."""
    rows = [
        (own, r.scores, p)
        for r, own, p in zip(records, rewards, prompt, strict=True)
        if r.pairs and r.scores
    ]
    if len({p for *_, p in rows}) < 2:
        return None
    proxy, gold = (np.concatenate([row[i] for row in rows]) for i in (0, 1))
    clusters = np.concatenate([[p] * len(own) for own, _, p in rows])
    k = min(len(own) for own, *_ in rows)
    cut = lambda i: np.array([row[i][:k] for row in rows])
    return {
        "records": len(rows),
        "responses": k,
        "spearman": within_prompt(spearman, proxy, gold, clusters),
        "kendall": within_prompt(kendall, proxy, gold, clusters),
        "best_of_n": curve(cut(0), cut(1)),
    }
