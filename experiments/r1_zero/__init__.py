"""Reinforcement learning from verifiable rewards, and what the parts of DAPO are worth.

A small policy is shown how 800 questions are worked out, so that it is right sometimes. Then
it goes on by trial and error: it answers questions that nobody worked out for it, and
reasoning-gym's own verifiers say which answers are right. Every variant is a row of
`r1_variants.VARIANTS`; it starts from the same policy and draws the same number of completions.
The tasks are chain_sum (three numbers of one digit) and countdown with few, small numbers
(three, up to 12, for a target up to 40).

Data: chain_sum and countdown of reasoning-gym, generated: pip install "irl_jax[reasoning]".
Claim: GRPO makes a policy solve more at its first attempt: pass@1 rose on every seed of both
    tasks, and more questions than before were never solved. In 16 attempts it did not surely
    solve more. 3 seeds are few, and on one of them pass@1 rose by 0.07 to 0.12 in three draws
    (below): differences of some hundredths between variants say nothing yet, and no part of
    DAPO is claimed to pay or to cost.
Command: python -m experiments.r1_zero
Runtime: 23 min in one process, beside other runs; 1,931 s of CPU; peak memory 1.6 GiB.
Expected: 3 seeds, 128 held-out questions each with 32 attempts, 98,304 completions a variant; 95 %
    intervals over questions, paired for differences; (by seed).
    chain_sum: pass@1 0.316 [0.292, 0.341], pass@16 0.875 [0.849, 0.900] before. After minus
    before, pass@1: GRPO 0.065 [0.044, 0.088] (0.070, 0.098, 0.027), + clip-higher 0.076 [0.055,
    0.098]; pass@16: GRPO -0.028 [-0.056, 0.002]. Clip-higher minus GRPO, pass@1: 0.011 [-0.004,
    0.026]. Never solved in 32 attempts: 0.057 before, 0.104 after GRPO.
    countdown: pass@1 0.068 [0.060, 0.076], pass@16 0.515 [0.473, 0.554] before. After minus before,
    pass@1: GRPO 0.117 [0.092, 0.142] (0.159, 0.102, 0.090); pass@16: GRPO -0.068 [-0.118,
    -0.019]. Never solved: 0.341 before, 0.503 after GRPO. Entropy falls from 0.43 to 0.24 nats a
    token (chain_sum: 0.17 to 0.14); 0.2 to 0.8 % of tokens are at the clip at first, later none.
    Other numerics sample other tokens. GRPO on seed 0 of chain_sum, pass@1 after minus before:
    0.070 as above, 0.122 [0.087, 0.159] on a Xeon with AVX-512, 0.074 [0.034, 0.113] on it with
    XLA_FLAGS=--xla_cpu_max_isa=AVX2.
    The variants with dynamic sampling were not measured as they are now: former figures were of
    a filter on the whole reward, which kept groups of all right and of all wrong answers where
    their form differed; now the accuracy alone decides.
    Batch size and learning rate were chosen on seed 0 of both tasks, whose figures are among
    these: a rate of 3e-3, or of 3e-4 for updates on 128 completions, unlearns. The other rows of
    `VARIANTS` run by `--chain-sum` and `--countdown`; their results were not measured, either.
"""
