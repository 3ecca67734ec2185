"""From your own comparisons to a better policy: `irl-jax reward`, then `irl-jax align`, one report.

A file of comparisons (`prompt`, `chosen`, `rejected`, as strings or as message lists) becomes a
reward model first: a LoRA and a scalar head on the language model, by Bradley-Terry likelihood,
measured on held-out prompts. Then the language model itself is improved, by DPO on the same pairs,
or against the learned reward by GRPO (--policy.loss grpo). A KL penalty keeps either near the
model that it started from. The result is a directory that other libraries load.

--reward.NAME is the flag NAME of `irl-jax reward`, --policy.NAME that of `irl-jax align`; what both
need (--model, --lora.rank, --seed) is given once. Every published loss is a name, as there: with
--reward.loss grm_sft the reward's hidden states stay of use to the model's own head. With
--reward.ensemble.members K the reward aggregates K LoRAs with heads, and the report says where they
disagree.

Claim: The learned reward ranks held-out pairs better than chance and length do. The policy's
    answers to held-out prompts score higher under it than the model's own do, at a KL that is
    reported.
Command: python -m experiments.preference_to_policy --data.path prefs.jsonl --model DIR
    (DIR: a Hugging Face directory or GGUF file of a Llama-family model; or smollm2, tiny)
Runtime: 83 s of CPU for the tiny model and 256 pairs; 31 minutes and 5.5 GiB for SmolLM2 and the
    288 pairs of expected.md, on 2 cores shared with two other runs.
Expected: experiments/preference_to_policy/expected.md. The tiny model's reward orders all 52
    held-out pairs right. SmolLM2 hardly moves on 288 pairs.
"""
