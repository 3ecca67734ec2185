"""Every experiment at its tiniest setting: what it prints, writes and exports.

    python -m tests.experiments.pulse OUT [NAME ...]          runs them, a process each
    python -m tests.experiments.pulse OUT --against BEFORE    and says what differs from BEFORE

OUT/figures.json holds, of each experiment, its summary.json and the SHA-256 of what it
exports. On one machine two runs of the same code give the same bits.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from irl_jax.recipes.tiny import make_tiny, topics
from irl_jax.train.progress import Progress
from tests.experiments import (
    test_adversarial_imitation,
    test_fine_grained_feedback,
    test_gail_2016,
    test_gsm8k,
    test_gsm8k_outcome_reward,
    test_hh_rlhf_embedding,
    test_maze_mice,
    test_prompt_oirl_gsm8k,
)
from tests.experiments.conftest import ROWS, write_encoder, write_jsonl

ANSWERS = (
    "--answers.model {tiny} --answers.prompts 16 --answers.completions 8 "
    "--answers.max-new-tokens 10 --answers.feature-layers 1 --answers.mesh.data 1 "
)
ENSEMBLE = (
    "--reward.members 2 --reward.widths 8 --reward.steps 60 --reward.batch-size 32 "
    "--reward.lr 0.01 "
)
SANDBOX = (
    "--sandbox.vocabulary 6 --sandbox.prompt-tokens 2 --sandbox.max-new-tokens 5 "
    "--sandbox.width 8 --sandbox.layers 1 --sandbox.demonstrations 256 --sandbox.steps 60 "
    "--sandbox.batch-size 32 "
)
EMBEDDINGS = (
    "--language-model {tiny} --sentence-encoder {encoder} --layers 1 --max-prompt 32 "
    "--max-completion 32 --seeds 3 "
)
MODEL = "--model {tiny} --mesh.data 1 "
FLAGS = {
    "active_reward_modelling": ANSWERS
    + ENSEMBLE
    + "--pool 120 --batch 20 --rounds 3 --samples 20 --best-of 4 --seeds 2",
    "adversarial_imitation": "--data {experts} --tasks cartpole --seeds 2 --control-seeds 2 "
    "--episodes 2 --cloning.snapshots 2 --cloning.between 2 --whole.snapshots 2 "
    "--whole.between 2 --dagger.rounds 2 --dagger.updates 2 --soft.steps 1600 --soft.updates 1 "
    "--offline.updates 2 --policy.steps 6400 --policy.environments 4 --policy.unroll 100",
    "alignment_frontier": SANDBOX
    + ENSEMBLE
    + "--seeds 3 --comparisons 128 --training.updates 12 --training.every 4 --training.pairs 16 "
    "--training.prompts 4 --training.completions 4 --measuring.prompts 32 "
    "--measuring.completions 4 --best-of 8 --best-of-prompts 8",
    "annotation_noise": ANSWERS
    + ENSEMBLE
    + "--error-rates 0 0.4 --pairs 200 --best-of 4 --seeds 3",
    "credit_assignment": "--seeds 2 --tuning 2 --steps 8 --budget 1200 --rates 0.1 3",
    "decomposed_preferences": "--features {features} --dims 16 --attributes 2 --annotators 40 "
    "--comparisons 40 --new-annotators 30 --adaptation 0 40 --held-out 60 --components 2 "
    "--seeds 2 --mixture.members 2 --mixture.steps 120 --mixture.batch-size 32",
    "demonstration_rewards": ANSWERS + ENSEMBLE + "--own-samples 4 --labels 2 --n 4 --seeds 3",
    "dense_rewards": SANDBOX
    + ENSEMBLE
    + "--demonstrations 64 --best-of 4 --held-out 48 --completions 4 --epochs 4 --seeds 2",
    "exploration": "--seeds 2 --sizes 4 --episodes 120 --window 5",
    "f_divergences": "--worlds 2 --rows 3 --columns 3 --walls 0 --searches 6",
    "feedback_forms": ANSWERS
    + "--error-rates 0.2 --readings 32 96 --decisions 16 --people 4 --best-of 4 --seeds 3 "
    "--lrs 0.01 --reward.steps 60 --attributes.rated 40 --attributes.comparisons 4 16 "
    "--rate.members 2 --rate.pairs 16 --rate.width 4",
    "fine_grained_feedback": ENSEMBLE
    + "--data {feedback} --language-model {tiny} --dtype float32 --layers 1 --max-prompt 40 "
    "--max-completion 60 --judged 6 --held-out 0.25 --questions 10 45 --seeds 3",
    "gail_2016": "--data {gail} --tasks mountaincar --demonstrations 1 2 --seeds 2 --episodes 2 "
    "--cloning.snapshots 2 --cloning.between 2 --cloning.widths 4 --discriminator.widths 4 "
    "--policy.steps 64 --policy.environments 4 --policy.unroll 8 --policy.widths 4",
    "gridworld_irl": "--worlds 2 --rows 2 --columns 3 --walls 1 --demonstrations 4 30",
    "gsm8k": MODEL
    + "--data.train {gsm8k}/train.jsonl --data.test {gsm8k}/test.jsonl --data.prompt {{question}} "
    "--lora.rank 4 --policy.steps 3 --policy.prompts 4 --policy.completions 4 "
    "--policy.max-new-tokens 12 --policy.lr 0.01 --evaluation.questions 6 "
    "--evaluation.completions 4 --evaluation.temperature 1 --evaluation.batch-size 4 "
    "--reward.format 0.5 --reward.overlong 0.25 --reward.buffer 4",
    "gsm8k_outcome_reward": EMBEDDINGS + ENSEMBLE + "--data {solutions}",
    "guided_decoding": "--seeds 2 --world.vocabulary 8 --world.max-new-tokens 8 --world.width 8 "
    "--world.layers 1 --world.demonstrations 256 --world.steps 60 --world.batch-size 32 "
    "--pairs 256 --rollouts 512 --steps 60 --batch-size 64 --prompts 24 --completions 4 "
    "--weights 0 3 --top-k 0 --candidates 1 4 --draws 16 --ns 1 4 " + ENSEMBLE,
    "hindsight": "--seeds 2 --bits 2 --episodes 8 --copies 2 --learning.steps 24 "
    "--learning.environments 2 --learning.unroll 6 --learning.updates 2 --learning.batch-size 4 "
    "--learning.capacity 64 --learning.widths 4",
    "hh_rlhf_embedding": EMBEDDINGS + ENSEMBLE + "--data {hh}",
    "iterated_finetuning": SANDBOX
    + ENSEMBLE
    + "--seeds 2 --comparisons 128 --rounds 3 --prompts 16 --completions 4 --measuring.prompts 64 "
    "--measuring.completions 4",
    "maze_mice": "--data {mice} --folds 2 --resamples 3 --permutations 3 --fit.steps 8",
    "overoptimisation": SANDBOX
    + ENSEMBLE
    + "--seeds 2 --pairs 32 64 --widths 2 8 --best-of 8 --best-of-prompts 8 --policy.updates 8 "
    "--policy.dpo-every 4 --policy.prompts 4 --policy.completions 4 --policy.dpo-batch 16",
    "mle_or_inverse_q": SANDBOX
    + "--seeds 2 --demonstrations 8 --lams 0 0.1 --temperatures 0.5 1 --equal 1 --expert.pool 8 "
    "--learning.updates 4 --learning.rows 4 --measuring.prompts 8 --measuring.completions 3 "
    "--solutions.train {gsm8k}/train.jsonl --solutions.test {gsm8k}/test.jsonl "
    "--solutions.model {tiny} --solutions.mesh.data 1 --solutions.row 160 --solutions.rows 2 "
    "--solutions.updates 2 --solutions.questions 4 --solutions.completions 2 "
    "--solutions.max-new-tokens 24 --solutions.lams 0 0.1 --solutions.temperatures 1",
    "preference_to_policy": MODEL
    + "--data.path {preferences} --data.held-out 0.25 --data.buckets 1 --lora.rank 4 "
    "--reward.epochs 1 --reward.batch-size 8 --policy.batch-size 8 --evaluation.prompts 8 "
    "--evaluation.completions 2 --evaluation.batch-size 8",
    "preference_to_policy_grpo": MODEL
    + "--policy.loss grpo --data.path {preferences} --data.held-out 0.25 --data.buckets 1 "
    "--lora.rank 4 --reward.epochs 1 --reward.batch-size 8 --policy.steps 3 --policy.batch-size 8 "
    "--policy.completions 2 --evaluation.prompts 8 --evaluation.completions 2 "
    "--evaluation.batch-size 8",
    "process_rewards": "--seeds 2 --questions 48 --solutions 4 --rollouts 2 --held-out 24 "
    "--candidates 4 --task.terms 2 --task.lessons 400 --task.width 16 --task.layers 1 "
    "--task.steps 60 --task.batch-size 32 --judge.ensemble.steps 40 --judge.implicit.steps 20 "
    "--judge.implicit.batch-size 32",
    "prompt_oirl_gsm8k": ENSEMBLE
    + "--data {log} --gsm8k {log_dir} --sentence-encoder {encoder} --folds 2 --seeds 2",
    "quickstart": MODEL
    + "--completions 4 --max-new-tokens 10 --prompts.train 16 --prompts.held-out 16 "
    "--reward.members 2 --reward.steps 60 --policy.steps 4 --policy.prompts 8 "
    "--policy.completions 4 --policy.save-every 2",
    "r1_zero": "--seeds 1 --chain-sum token dapo --countdown grpo --drawn 200 --held-out 4 "
    "--attempts 4 --ks 1 2 4 --policy.lessons 20 --policy.width 16 --policy.layers 1 "
    "--policy.steps 8 --policy.batch-size 4 --online.rollouts 4 --online.prompts 4 "
    "--online.completions 4 --online.minibatches 1",
    "reward_of_an_aligned_model": MODEL
    + "--train 8 --held-out 6 --samples 4 --judged 6 --pairs 8 32 --draws 2 --max-new-tokens 10 "
    "--feature-layers 1 --policy.steps 2 --reading.members 2 --reading.steps 20",
    "reward_transfer": "--worlds 2 --states 6 --actions 3 --shares 0.5 1",
    "self_play": "--seeds 2 --learning.updates 4 --learning.games 4 --learning.snapshots 2 "
    "--decoder.updates 4 --decoder.games 4 --decoder.snapshots 2 --width 4 "
    "--exact.updates 4 --exact.snapshots 2",
    "score": "--data {preferences} --model {out}/preference_to_policy/run --edits 8",
    "text_games": "--seeds 2 --updates 4 --parts 2 --episodes 2 --width 4 --layers 1",
}


def make_files(folder: Path) -> dict[str, Path]:
    """What the experiments read, by the name that `FLAGS` gives it."""
    rng = np.random.default_rng(0)
    places = {name: folder / name for name in ("tiny", "encoder", "gsm8k", "log_dir")}
    for name in ("encoder", "gsm8k", "log_dir"):
        places[name].mkdir(parents=True)
    with Progress(io.StringIO()) as progress:
        make_tiny(places["tiny"], seed=0, progress=progress)
    write_encoder(places["encoder"])
    write_jsonl(places["gsm8k"] / "train.jsonl", test_gsm8k.questions(0, 12))
    write_jsonl(places["gsm8k"] / "test.jsonl", test_gsm8k.questions(20, 6))
    test_prompt_oirl_gsm8k.write_log(places["log_dir"])
    np.save(folder / "features.npy", rng.standard_normal((200, 2, 20)).astype(np.float32))
    feedback = [test_fine_grained_feedback.question(topic, rng) for topic in topics(60, 0)]
    (folder / "feedback.json").write_text(json.dumps(feedback), encoding="utf-8")
    return places | {
        "features": folder / "features.npy",
        "feedback": folder / "feedback.json",
        "log": places["log_dir"] / "log.npz",
        "preferences": write_jsonl(folder / "preferences.jsonl", ROWS),
        "hh": write_jsonl(folder / "hh.jsonl", test_hh_rlhf_embedding.dialogues()),
        "experts": test_adversarial_imitation.write(folder / "experts"),
        "gail": test_gail_2016.write(folder / "gail"),
        "mice": test_maze_mice.write(
            folder / "mice.npz", D9a=test_maze_mice.mice(0, 6), D9b=test_maze_mice.mice(1, 6)
        ),
        "solutions": write_jsonl(folder / "solutions.jsonl", test_gsm8k_outcome_reward.rows(60)),
    }


def pulse(name: str, out: Path, places: dict[str, Path]) -> dict[str, Any]:
    """Runs one experiment; returns its figures.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    flags = FLAGS[name].format(out=out, **places).split()
    run = out / name / "run"
    module = f"experiments.{name.removesuffix('_grpo')}"
    done = subprocess.run(
        [sys.executable, "-m", module, *flags, "--run-dir", str(run)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{name} ended with status {done.returncode}:\n{done.stderr}")
    summary = (run / "summary.json").read_text(encoding="utf-8")
    weights = sorted(run.rglob("*.safetensors"))
    return {
        "summary": json.loads(summary.replace(str(out), "OUT")),
        "weights": {
            str(f.relative_to(run)): hashlib.sha256(f.read_bytes()).hexdigest() for f in weights
        },
    }


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The figures in a summary with their places; seconds are left out."""
    if isinstance(tree, dict | list):
        items = tree.items() if isinstance(tree, dict) else enumerate(tree)
        for key, value in items:
            if key != "seconds":
                yield from leaves(value, f"{path}/{key}")
    else:
        yield path, tree


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A line for each figure that is not the same to the bit."""
    old, new = dict(leaves(before)), dict(leaves(after))
    return [
        f"{place}: {old.get(place)} -> {new.get(place)}"
        for place in old | new
        if repr(old.get(place)) != repr(new.get(place))
    ]


def main() -> None:
    """Runs what the command line names; exits with 1 where a figure differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    out = options.out.resolve()
    places = make_files(out / "files")
    figures = {}
    if unknown := set(options.names) - set(FLAGS):
        parser.error(f"no such experiment: {', '.join(sorted(unknown))}; one of {', '.join(FLAGS)}")
    for name in (name for name in FLAGS if name in options.names or not options.names):
        start = time.perf_counter()
        figures[name] = pulse(name, out, places)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        (out / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    if options.against:
        before = json.loads((options.against / "figures.json").read_text(encoding="utf-8"))
        found = differences({n: before.get(n) for n in figures}, figures)
        print("\n".join(found) or f"all figures as in {options.against}")
        sys.exit(bool(found))


if __name__ == "__main__":
    main()
