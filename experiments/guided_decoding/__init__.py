"""Steering a frozen policy while it writes: reward models, values of prefixes, and best-of-n.

A small policy writes sentences. A reward model learned from noisy comparisons says which are good,
and a gold reward, which no method sees, judges the result. The policy stays as it is; the reward
model is used at inference in four ways:

- best-of-n: write n, keep the best;
- ARGS: at each token, add w times the reward of the unfinished text to the scores of the
  likeliest candidates;
- controlled decoding, tokenwise: the same with the value of the prefix, a head on a decoder
  that learned to predict the reward at the end (CD-FUDGE, CD-Q);
- controlled decoding, blockwise: write M blocks of 4 tokens, keep that of the best value.

KL to the policy is estimated from the guided sampler's true log-probs where it has any. For
best-of-n it is the estimate of Beirami et al., for blocks an upper bound.

Claim: At equal compute, choosing among short blocks by the value of the prefix gets more gold
    reward than best-of-n. At equal KL, best-of-n is ahead of tokenwise steering. ARGS, whose reward
    model reads unfinished texts, is no better than best-of-n, and over-optimisation undoes strong
    steering by it.
Command: python -m experiments.guided_decoding
Runtime: 18 min 22 s on one core of a slow machine (92 GFLOP/s of f32 on two), 1,064 s of CPU,
    nothing compiled before; peak memory 1.6 GiB.
Expected: experiments/guided_decoding/expected.md. Two blocks to choose from give 0.16 more gold
    than best-of-2.
"""
