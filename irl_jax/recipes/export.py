"""What a run writes for other libraries: a policy or a reward model, tokenizer, model card.

A LoRA is merged into the weights, or stands alone as a directory of PEFT beside its base.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import numpy as np

from irl_jax.data.ended import reward_tokenizer
from irl_jax.files import write_atomic, writing
from irl_jax.models.huggingface import save_huggingface
from irl_jax.models.mesh import fetch
from irl_jax.models.peft_files import Adapter, check_modules, is_adapter, save_adapter
from irl_jax.models.reward_files import OWN_FILE, save_reward_model
from irl_jax.recipes.examples import template_of
from irl_jax.recipes.language_model import model_path
from irl_jax.recipes.policy_training import Training
from irl_jax.recipes.reward_config import RewardConfig
from irl_jax.recipes.reward_model import RewardModel
from irl_jax.rollout.session import LanguageModel
from irl_jax.types import InputError, PyTree

CARD = "README.md"
"""The model card, where Hugging Face has it."""


def check_export(config: Any, model: LanguageModel) -> None:
    """Checks that what a run will train can be exported as its flags say.

    Args:
        config: of the run.
        model: that it starts from.

    Raises:
        InputError: an adapter is wanted of every weight, of a model that is one, or of modules
            that PEFT does not have.
    """
    if config.export == "merged":
        return
    if getattr(config, "train", "lora") == "full":
        raise InputError("export: adapter is of a LoRA; give --train lora, or --export merged")
    if is_adapter(config.model):
        raise InputError(
            f"export: adapter: the model {config.model} is a LoRA itself; give --export merged"
        )
    check_modules(model.config, jax.eval_shape(config.lora.init, jax.random.key(0), model.params))


def adapter_base(config: Any, place: Path) -> str:
    """What an adapter in a directory says of its base: the model as the flag names it.

    The tiny model, which a run makes, is named by its place from there.
    """
    if config.model != "tiny":
        return str(config.model)
    return os.path.relpath(model_path("tiny", config.run_dir, config.seed), place)


def export_policy(config: Any, training: Training, params: PyTree, card: str) -> Path:
    """Writes export/: a policy, its LoRA merged or alone; whole or not at all.

    Args:
        config: of the run, with its directory.
        training: session, LoRA.
        params: what was trained of the policy.
        card: its model card.

    Returns:
        The directory.

    Raises:
        InputError: it cannot be written.
    """
    model, dtype = training.session.model, config.export_dtype
    if config.export == "merged":
        return export(config.run_dir, model, training.merged(params), dtype=dtype, card=card)
    adapter = Adapter(fetch(params), training.lora.rank, training.lora.alpha)

    def write(place: Path) -> None:
        if jax.process_index() == 0:
            base = adapter_base(config, place)
            save_adapter(place, model.config, adapter, base=base, dtype=dtype)
            model.tokenizer.save(place)
            write_atomic(place / CARD, card.encode())

    return write_whole(config.run_dir / "export", write)


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
    config: RewardConfig,
    learned: RewardModel,
    *,
    log_odds: bool,
    card: Callable[[float, bool], str],
) -> Path:
    """Writes export/: a reward model that `AutoModelForSequenceClassification` loads.

    Of several members each has a directory, export/member_1, ... The LoRA is inside the weights,
    or alone with the head, for PEFT. The bias of the head, which a head of transformers does not
    have, is in config.json, or in a file beside an adapter, for our own reader alone. The chat
    template ends a conversation with EOS, at which the reward was trained to be read.

    Args:
        config: of the run, with its directory.
        learned: the reward.
        log_odds: whether a difference of two rewards is the log-odds of a preference.
        card: (bias of the head, whether there is a token to pad with) -> the model card.

    Returns:
        The directory.

    Raises:
        InputError: it cannot be written.
    """
    assert config.run_dir is not None
    model, count = learned.training.session.model, learned.config.members
    template = template_of(config.data.chat, model.tokenizer)
    tokenizer, pad = reward_tokenizer(model.tokenizer, template, config.data.add_bos)
    merged, dtype = config.export == "merged", config.export_dtype

    def write_member(place: Path, params: PyTree) -> None:
        lora, head = params["decoder"], fetch(params["head"])
        decoder = fetch(learned.training.merged(lora) if merged else lora)
        kernel = np.asarray(head["kernel"])
        own = {"bias": float(head["bias"]), "log_odds": log_odds}
        if jax.process_index() > 0:
            return
        if merged:
            save_reward_model(
                place, model.config, decoder, kernel, dtype=dtype,
                eos_token_id=model.tokenizer.eos_id, pad_token_id=pad, own=own,
            )  # fmt: skip
        else:
            save_adapter(
                place,
                model.config,
                Adapter(decoder, config.lora.rank, config.lora.alpha, kernel[None]),
                base=adapter_base(config, place),
                dtype=dtype,
                objects={OWN_FILE: {**own, "label": "reward", "pad_token_id": pad}},
            )
        tokenizer.save(place)
        write_atomic(place / CARD, card(own["bias"], pad is not None).encode())

    def write(place: Path) -> None:
        if count == 1:
            return write_member(place, learned.params)
        for m in range(count):
            own = jax.tree.map(itemgetter(m), learned.params)
            write_member(place / f"member_{m + 1}", own)

    return write_whole(config.run_dir / "export", write)


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
