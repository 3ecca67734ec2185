"""The reward inside a fine-tuned model: what a policy tells of demonstrations, token by token.

A policy that was fine-tuned on demonstrations carries a reward, log π_SFT − log π_ref: one number a
token, with no training beyond the fine-tuning (Li et al. 2025, arXiv 2510.02493). In the sandbox
(`experiments.sandbox`) the gold reward is known. Demonstrations are the best of 16 completions by
gold, and the rewards are asked to order other completions of the reference policy.

Two other rewards say what else the data could give: a discriminator of the same demonstrations and
as many samples (Jensen-Shannon, on embeddings), and Bradley-Terry on as many comparisons (best
against worst of a prompt's 16, the same samples). Gold of prefixes says which token earned what;
the dense reward is compared with it, up to what shaping may move.

Claim: The dense reward, summed over tokens, orders other completions better than a discriminator of
    the same demonstrations does. From 256 demonstrations on it is also better than a reward from as
    many comparisons. The fine-tuned model's own log-probability, without the reference's taken off,
    says less than half as much.
Command: python -m experiments.dense_rewards
Runtime: 11 min 12 s on one core of a slow machine (92 GFLOP/s of f32 on two), 642 s of CPU,
    nothing compiled before; peak memory 2.2 GiB.
Expected: experiments/dense_rewards/expected.md. Rank correlation with gold is 0.74 from 1,024
    demonstrations.
"""
