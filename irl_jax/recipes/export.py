"""What a run writes for other libraries: a policy or a reward model, tokenizer, model card."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

import jax
import numpy as np

from irl_jax.data.ended import reward_tokenizer
from irl_jax.files import write_atomic, writing
from irl_jax.models.huggingface import save_huggingface
from irl_jax.models.mesh import fetch
from irl_jax.models.reward_files import save_reward_model
from irl_jax.recipes.examples import DataConfig, template_of
from irl_jax.recipes.reward_model import RewardModel
from irl_jax.rollout.session import LanguageModel
from irl_jax.types import PyTree

CARD = "README.md"
"""The model card, where Hugging Face has it."""


def export(
    run_dir: Path, model: LanguageModel, policy: PyTree, *, dtype: str, card: str | None = None
) -> Path:
    """Writes export/: a policy as safetensors, with its tokenizer; whole or not at all.

    Args:
        run_dir: where.
        model: its shape and tokenizer.
        policy: parameters of the decoder.
        dtype: of the weights in the file.
        card: its model card, if any.

    Returns:
        The directory, which other libraries load.

    Raises:
        InputError: it cannot be written.
    """
    params = fetch(policy)

    def write(place: Path) -> None:
        if jax.process_index() > 0:
            return
        save_huggingface(
            place,
            model.config,
            params,
            dtype=dtype,
            eos_token_id=model.eos_ids,
            pad_token_id=model.tokenizer.pad_id,
        )
        model.tokenizer.save(place)
        if card is not None:
            write_atomic(place / CARD, card.encode())

    return write_whole(run_dir / "export", write)


def export_reward(
    run_dir: Path,
    learned: RewardModel,
    data: DataConfig,
    *,
    dtype: str,
    log_odds: bool,
    card: Callable[[float, bool], str],
) -> Path:
    """Writes export/: a reward model that `AutoModelForSequenceClassification` loads.

    Of several members each has a directory, export/member_1, ... The LoRA is inside the weights,
    and the bias of the head, which a head of transformers does not have, is in config.json for
    our own reader alone. The chat template ends a conversation with EOS, at which the reward
    was trained to be read.

    Args:
        run_dir: where.
        learned: the reward.
        data: how its prompts and completions were encoded.
        dtype: of the weights in the file.
        log_odds: whether a difference of two rewards is the log-odds of a preference.
        card: (bias of the head, whether there is a token to pad with) -> the model card.

    Returns:
        The directory.

    Raises:
        InputError: it cannot be written.
    """
    model, count = learned.training.session.model, learned.config.members
    template = template_of(data.chat, model.tokenizer)
    tokenizer, pad = reward_tokenizer(model.tokenizer, template, data.add_bos)

    def write_member(place: Path, params: PyTree) -> None:
        decoder = fetch(learned.training.merged(params["decoder"]))
        head = fetch(params["head"])
        own = {"bias": float(head["bias"]), "log_odds": log_odds}
        if jax.process_index() == 0:
            save_reward_model(
                place, model.config, decoder, np.asarray(head["kernel"]), dtype=dtype,
                eos_token_id=model.tokenizer.eos_id, pad_token_id=pad, own=own,
            )  # fmt: skip
            tokenizer.save(place)
            write_atomic(place / CARD, card(own["bias"], pad is not None).encode())

    def write(place: Path) -> None:
        if count == 1:
            return write_member(place, learned.params)
        for m in range(count):
            own = jax.tree.map(itemgetter(m), learned.params)
            write_member(place / f"member_{m + 1}", own)

    return write_whole(run_dir / "export", write)


def exported_files(directory: Path) -> list[str]:
    """The files of an export, relative to its run."""
    found = sorted(path for path in directory.rglob("*") if path.is_file())
    return [str(path.relative_to(directory.parent)) for path in found]


def write_whole(final: Path, write: Callable[[Path], None]) -> Path:
    """Puts a directory in the place of what is there, once all of it is written.

    Args:
        final: the directory.
        write: fills a directory that is not there yet; on every process.

    Raises:
        InputError: it cannot be written.
    """
    partial_place = final.with_name(f".{final.name}.partial")
    if jax.process_index() > 0:
        write(partial_place)
        return final
    with writing(final):
        shutil.rmtree(partial_place, ignore_errors=True)
        try:
            write(partial_place)
            shutil.rmtree(final, ignore_errors=True)
            partial_place.rename(final)
        finally:
            shutil.rmtree(partial_place, ignore_errors=True)
    return final
