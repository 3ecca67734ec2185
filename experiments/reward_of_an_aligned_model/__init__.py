"""The reward of an aligned model, read from what it writes.

SmolLM2-135M-Instruct learns by GRPO to please VADER, whose valence of a text is the gold reward.
Then somebody who knows neither asks what it was rewarded for, in four ways: log π/π_ref of a text,
which takes both models' weights; and, from samples of the policy and of its reference alone, the
direction in which they are furthest apart (max-margin), a discriminator of the two, and
Bradley-Terry on pairs in which the policy's answer is preferred. The last three read hidden states
of the reference. Each is asked to order new answers of the reference, to prompts on other topics in
the same words and in other words, and compared with VADER.

Three controls can fail: the same three readings of a policy that has not moved (more samples of the
reference in place of the policy's), log π/π_ref of a LoRA whose numbers were shuffled, and the
length of a text. Comparisons by VADER itself, as many of them, say what the features could tell.

Claim: From 384 samples of each side, Bradley-Terry orders new answers on other topics as VADER
    does, surely better than the same reading of a policy that has not moved; a discriminator in
    three of four comparisons, and log π/π_ref against a LoRA of shuffled numbers in three of four.
Command: python -m experiments.reward_of_an_aligned_model
Runtime: 14 min of CPU, nothing compiled before.
Expected: experiments/reward_of_an_aligned_model/expected.md. The rank correlation of Bradley-Terry
    is 0.29 and 0.30 in two draws of the policy, of log π/π_ref 0.29 and 0.09.

Reference: Joselowitz et al. 2024, "Insights from the Inverse: Reconstructing LLM Training Goals
    Through Inverse Reinforcement Learning", arXiv 2410.12491.
"""
