"""How good is a reward? A file of comparisons, scored and looked at from every side.

The reward model of a run of `experiments.preference_to_policy`, or a baseline (the
likelihood of a response under a language model, its length), gives every response of a
file a number. The report says how often it orders responses as people did, in each
subset and over all; whether it is as sure as it is right; how far it goes by length;
how edits that change no meaning move it; and, where responses have scores, what it is
worth in best-of-n. All intervals resample prompts.

Where questions have many right answers and a reference with one (`id` of `tied:QUESTION` and
`ref:QUESTION`, as in RewardBench 2's Ties), it is also asked whether the reward cares which.

A line of the file is `{"prompt", "chosen", "rejected"}`, with `subset` and `id` if there
are any, as strings, messages, or lists of several responses (RewardBench, RewardBench 2,
HH-RLHF); or `{"prompt", "responses", "scores"}`.

Data: harmless-base/test.jsonl.gz of https://huggingface.co/datasets/Anthropic/hh-rlhf
    (MIT; contains offensive text), for the numbers below.
Claim: the likelihood of an answer under a small language model is no measure of its
    harmlessness: it orders people's comparisons by chance, and a line break at the end of
    an answer moves it nearly as far as another answer does. A reward model of 288 short
    comparisons is by chance, too, once answers are longer, and surer than it is right; but
    that line break moves it little.
Command: python -m experiments.score --reward likelihood --model smollm2
    --data harmless-base-test.jsonl.gz --ties drop --limit 160 --edits 16
    --read.max-prompt 64 --read.max-completion 48 --read.overlong truncate
    --read.dtype bfloat16
    A learned reward, with the RUN that `experiments.preference_to_policy` gives numbers of:
    python -m experiments.score --model RUN --data harmless-base-test.jsonl.gz --held-out
    --ties drop --limit 160 --edits 16 --read.overlong truncate --read.dtype bfloat16
    (your own: --model RUN --data FILE)
Runtime: 99 s of CPU for the likelihood, 90 s and 1.9 GiB for the learned reward; 5 and 17
    minutes on 2 cores that eight and more other jobs shared.
Expected: seed 0, 95 % intervals over prompts. Likelihood: accuracy on 160 comparisons 0.512
    [0.438, 0.588], correlation with length 0.001 [-0.112, 0.115]. Mean |Δr| on 16 comparisons, in
    standard deviations between answers to one prompt: line break at the end 0.79 [0.54,
    1.04], no final stop 0.71 [0.38, 1.11], small first letter 0.58 [0.39, 0.80],
    contractions in full 0.43 [0.23, 0.62]; all lower the likelihood, and the line break
    on both sides turns 0.25 [0.06, 0.50] of the orders round.
    The learned reward, trained by DPO's command there on pairs that fit 64 + 48 tokens, on 160
    pairs of held-out prompts cut to that: accuracy 0.438 [0.362, 0.519], calibration error 0.236
    [0.182, 0.323], correlation with length -0.004 [-0.180, 0.193]; mean |Δr| line break 0.12
    [0.06, 0.19], no final stop 0.18 [0.05, 0.31], two spaces 0.78 [0.26, 1.42], contractions
    in full 0.65 [0.14, 1.34]. On the 81 pairs that need no cut its run found 0.556.
    With --reward length on all 2,312 comparisons (7 s of CPU): people chose the longer of
    two answers of unequal length in 0.445 [0.425, 0.465].
"""
