"""The study of `experiments.hh_rlhf_embedding`: settings, stages, summary."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.hh_rlhf_embedding.config import Config
from experiments.hh_rlhf_embedding.report import conclusion, write_report
from irl_jax.data.chat import DIALOGUE_TEMPLATE, render_chat
from irl_jax.data.jsonl import GroupRecord, PreferenceRecord, read_preferences
from irl_jax.eval.intervals import bootstrap, paired_difference
from irl_jax.files import as_json
from irl_jax.losses.link import logistic, probit, ropo_link, smoothed_zero_one, unbiased
from irl_jax.losses.preference import bradley_terry, gaussian, order_classification, pairwise
from irl_jax.models.heads import apply_against, apply_outputs, init_mlp
from irl_jax.models.pretrained import minilm_path
from irl_jax.recipes.embeddings import embed_groups, embed_texts
from irl_jax.recipes.language_model import load_language_model
from irl_jax.recipes.launch import Clock, given_model, kept, launch, splits
from irl_jax.rewards.embedding import (
    EnsembleConfig,
    fit_ensemble,
    fit_members,
    moments,
    standardise,
)
from irl_jax.train.progress import Progress
from irl_jax.train.run import RunDirectory
from irl_jax.types import InputError, Loss, Preference, PyTree

# features f32[N, 2, F], pairs of which those of weight 0 are not learned from, key -> f32[N, 2]
Learner = Callable[[jax.Array, Preference, jax.Array], jax.Array]


def learners(flip_rate: float, config: EnsembleConfig) -> dict[str, Learner]:
    """Name -> what learns rewards of all pairs; the others are held against the first.

    A scalar reward under each pairwise loss; a reward with a mean and a variance; and a
    network that reads both answers, whose rewards need not be transitive.
    """
    losses: dict[str, Callable[[jax.Array, Preference], Loss]] = {
        "Bradley-Terry": bradley_terry,
        "Bradley-Terry, centred": partial(bradley_terry, centering=0.01),
        "Thurstone": partial(pairwise, link=probit),
        "sigmoid": partial(pairwise, link=smoothed_zero_one),
        "ROPO": partial(pairwise, link=ropo_link(6.0)),
        "order classification": order_classification,
        "label smoothing": partial(bradley_terry, label_smoothing=flip_rate),
        "unbiased under flips": partial(pairwise, link=unbiased(logistic, flip_rate)),
    }

    def scalar(loss: Callable, x: jax.Array, batch: Preference, key: jax.Array) -> jax.Array:
        reward, _ = fit_ensemble(x, batch, key, config=config, loss=loss)
        return reward(x).mean(0)

    return {
        **{name: partial(scalar, loss) for name, loss in losses.items()},
        "mean and variance": partial(learn_gaussian, config),
        "reads both answers": partial(learn_against, config),
    }


def learn_gaussian(
    config: EnsembleConfig, features: jax.Array, batch: Preference, key: jax.Array
) -> jax.Array:
    """Rewards N(μ, σ²) by their likelihood; returns μ."""
    x = standardise(features, *moments(features, batch.weight))

    def objective(params: PyTree, rows: tuple[jax.Array, Preference]) -> Loss:
        inputs, pairs = rows
        mean, log_variance = jnp.moveaxis(apply_outputs(params, inputs), -1, 0)
        return gaussian(mean, log_variance, pairs)

    init = lambda key: init_mlp(key, x.shape[-1], config.widths, outputs=2)
    members, _ = fit_members(init, objective, (x, batch), key, config=config)
    return jax.vmap(apply_outputs, (0, None))(members, x)[..., 0].mean(0)


def learn_against(
    config: EnsembleConfig, features: jax.Array, batch: Preference, key: jax.Array
) -> jax.Array:
    """Rewards of each answer against the other, under Bradley-Terry."""
    x = standardise(features, *moments(features, batch.weight))

    def objective(params: PyTree, rows: tuple[jax.Array, Preference]) -> Loss:
        inputs, pairs = rows
        return bradley_terry(apply_against(params, inputs), pairs)

    init = lambda key: init_mlp(key, 2 * x.shape[-1], config.widths)
    members, _ = fit_members(init, objective, (x, batch), key, config=config)
    return jax.vmap(apply_against, (0, None))(members, x).mean(0)


def read(path: Path | None) -> tuple[list[PreferenceRecord], np.ndarray]:
    """The comparisons of a file, and the number of each one's dialogue i64[N].

    Raises:
        InputError: no path, or a line that cannot be read.
    """
    if path is None:
        raise InputError("data: no file of comparisons; give one, --data harmless-base.jsonl.gz")
    records = list(read_preferences(path, ties="drop"))
    number: dict[str, int] = {}
    prompt = [number.setdefault(repr(r.prompt), len(number)) for r in records]
    if len(number) < 10:
        raise InputError(f"{path}: {len(number)} dialogues are too few to split; give 10 or more")
    return records, np.array(prompt)


def as_dialogue(record: PreferenceRecord, side: str) -> str:
    """A dialogue and one answer to it, as plain text."""
    prompt, answer = record.prompt, getattr(record, side)
    if isinstance(prompt, str):
        return f"{prompt}\n{answer}"
    return render_chat(DIALOGUE_TEMPLATE, [*prompt, *answer], add_generation_prompt=False)


def group(record: PreferenceRecord) -> GroupRecord:
    """Both answers to a dialogue, chosen first."""
    return GroupRecord(record.prompt, [record.chosen, record.rejected], {}, record.source)


def embed(
    config: Config, records: list[PreferenceRecord], run: RunDirectory, progress: Progress
) -> dict[str, np.ndarray]:
    """Name of the embedding -> features f32[N, 2, F], from the run directory once made."""

    def sentences() -> dict[str, np.ndarray]:
        texts = [as_dialogue(r, side) for r in records for side in ("chosen", "rejected")]
        vectors = embed_texts(
            config.sentence_encoder or minilm_path(),
            texts,
            max_tokens=256,
            batch_size=32,
            advance=progress.stage("sentence embeddings", len(texts)),
        )
        return {"features": vectors.reshape(len(records), 2, -1)}

    def hidden_states() -> dict[str, np.ndarray]:
        model = load_language_model(
            config.language_model, run.path, seed=0, dtype="float32", progress=progress,
            tokenizer=config.tokenizer,
        )  # fmt: skip
        encoder = model.encoder(
            max_prompt=config.max_prompt, max_completion=config.max_completion, overlong="truncate"
        )
        features = embed_groups(
            model,
            encoder.groups(group(record) for record in records),
            layers=config.layers,
            batch_size=16,
            advance=progress.stage("hidden states", len(records)),
        )
        return {"features": features}

    makers = {"sentence encoder": sentences, "language model": hidden_states}
    return {
        name: kept(run, name.replace(" ", "_"), make)["features"] for name, make in makers.items()
    }


def accuracies(pairs: np.ndarray, train: np.ndarray, learn: Learner) -> np.ndarray:
    """Held-out accuracy of each split, f64[S]; all splits train in one program.

    Args:
        pairs: f32[N, 2, F].
        train: bool[S, N], pairs that a split learns from.
        learn: rewards of all pairs from some of them.
    """

    @jax.jit
    @partial(jax.vmap, in_axes=(None, 0, 0))
    def rewards(features: jax.Array, weight: jax.Array, key: jax.Array) -> jax.Array:
        return learn(features, Preference.without_tokens(weight), key)

    keys = jax.random.split(jax.random.key(1), len(train))
    reward = np.asarray(rewards(jnp.asarray(pairs), jnp.asarray(train, jnp.float32), keys))
    right = (np.sign(reward[..., 0] - reward[..., 1]) + 1) / 2
    return np.array([r[~t].mean() for r, t in zip(right, train, strict=True)])


def main(config: Config) -> None:
    """Runs the experiment, goes on with it, or reports what is there."""
    records, prompt = read(config.data)
    inputs = {
        "data": config.data,
        "language_model": given_model(config.language_model),
        "tokenizer": config.tokenizer,
        "sentence_encoder": config.sentence_encoder or minilm_path(),
    }
    launch(config, partial(experiment, config, records, prompt), conclusion, inputs=inputs)


def experiment(
    config: Config,
    records: list[PreferenceRecord],
    prompt: np.ndarray,
    run: RunDirectory,
    progress: Progress,
) -> None:
    """Embeds, trains every loss on every split, reports."""
    clock = Clock(run.path / "seconds.json")
    with clock("embed"):
        embeddings = embed(config, records, run, progress)
    train = splits(prompt, config.held_out, config.seeds)
    length = np.array([[len(as_dialogue(r, s)) for s in ("chosen", "rejected")] for r in records])
    shorter = (np.sign(length[:, 1] - length[:, 0]) + 1) / 2
    rows: dict[str, np.ndarray] = {
        "baseline / shorter answer": np.array([shorter[~t].mean() for t in train])
    }
    with clock("train reward models"):
        named = learners(config.flip_rate, config.reward)
        advance = progress.stage("reward models", len(embeddings) * len(named))
        for embedding, pairs in embeddings.items():
            for name, learn in named.items():
                rows[f"{embedding} / {name}"] = accuracies(pairs, train, learn)
                advance(len(rows) - 1, {})
    summary = {
        "pairs": len(records),
        "dialogues": int(prompt.max() + 1),
        "accuracy": {name: bootstrap(values) for name, values in rows.items()},
        "against_first": {
            f"{embedding} / {name}": paired_difference(
                rows[f"{embedding} / {next(iter(named))}"], rows[f"{embedding} / {name}"]
            )
            for embedding in embeddings
            for name in list(named)[1:]
        },
        "by_seed": {name: values.tolist() for name, values in rows.items()},
        "seconds": clock.seconds,
    }
    write_report(run, as_json(summary))
    run.finish(as_json(summary))
