"""From comparisons to a better policy: the whole of irl_jax in one run.

A language model answers short prompts; an annotator compares its answers; an ensemble
of reward models on the language model's own embeddings learns what the annotator
likes; GRPO moves the language model (a LoRA on it) towards what the ensemble rewards.
The annotator's true taste, the valence that VADER gives a text, is seen by the
annotator alone and by the final measurement.

Claim: a reward learned from noisy comparisons improves what the comparisons came
    from: the gold reward on held-out prompts rises, and the report shows against KL
    whether the learned reward was over-optimised.
Command: make quickstart (or: python -m experiments.quickstart --help)
Runtime: 6 to 7.5 minutes on 2 cores, of which three quarters are GRPO; peak memory 5.1 GiB.
Expected: gold reward on held-out prompts, paired difference with 95 % interval, KL in nats:
    seed 0: 0.098 -> 0.826, 0.728 [0.590, 0.868], KL 18.9;
    seed 1: 0.117 -> 0.770, 0.653 [0.540, 0.772], KL 17.0;
    seed 2: 0.136 -> 0.815, 0.679 [0.585, 0.787], KL 18.7;
    seed 3: 0.082 -> 0.756, 0.674 [0.527, 0.834], KL 14.3;
    seed 4: 0.148 -> 0.918, 0.770 [0.657, 0.890], KL 26.0.
    Where sums round otherwise, other tokens are drawn: another machine gave 0.770
    [0.631, 0.915] for seed 0 and 0.666 [0.563, 0.774] for seed 1.
"""
