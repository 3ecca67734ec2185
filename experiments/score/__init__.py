"""How good is a reward? A file of comparisons, scored and looked at from every side.

The reward model of a run of `experiments.preference_to_policy`, or a baseline (the
likelihood of a response under a language model, its length), gives every response of a
file a number. The report says how often it orders responses as people did, in each
subset and over all; whether it is calibrated; how far it goes by length; how far edits that
change no meaning move it; and, where responses have scores, what best-of-n by it is worth.
All intervals resample prompts.

Where questions have many right answers and a reference with one (`id` of `tied:QUESTION` and
`ref:QUESTION`, as in RewardBench 2's Ties), it is also asked whether the reward cares which.

A line of the file is `{"prompt", "chosen", "rejected"}`, with `subset` and `id` if there
are any, as strings, messages, or lists of several responses (RewardBench, RewardBench 2,
HH-RLHF); or `{"prompt", "responses", "scores"}`.

Data: harmless-base/test.jsonl.gz of https://huggingface.co/datasets/Anthropic/hh-rlhf
    (MIT; contains offensive text), for the figures of expected.md.
Claim: The likelihood of an answer under a small language model is no measure of its harmlessness.
    It orders people's comparisons by chance, and a line break at the end of an answer moves it
    nearly as far as another answer does. A reward model of 288 short comparisons orders longer
    answers by chance, too, and is surer than it is right; but that line break moves it little.
Command: python -m experiments.score --reward likelihood --model smollm2
    --data harmless-base-test.jsonl.gz --ties drop --limit 160 --edits 16
    --read.max-prompt 64 --read.max-completion 48 --read.overlong truncate
    --read.dtype bfloat16
    A learned reward, with the RUN of which `experiments.preference_to_policy` gives figures:
    python -m experiments.score --model RUN --data harmless-base-test.jsonl.gz --held-out
    --ties drop --limit 160 --edits 16 --read.overlong truncate --read.dtype bfloat16
    (your own: --model RUN --data FILE)
Runtime: 99 s of CPU for the likelihood, 90 s and 1.9 GiB for the learned reward; 5 and 17
    minutes on 2 cores that eight and more other jobs shared.
Expected: experiments/score/expected.md. The likelihood orders 0.512 of 160 comparisons as people
    did.
"""
