"""Reinforcement learning from verifiable rewards, and what the parts of DAPO are worth.

A small policy is shown how 800 questions are worked out, so that it is right sometimes. Then
it goes on by trial and error: it answers questions that nobody worked out for it, and
reasoning-gym's own verifiers say which answers are right. Every variant is a row of
`r1_zero.variants.VARIANTS`. All start from the same policy and draw as many completions.
The tasks are chain_sum (three numbers of one digit) and countdown with few, small numbers
(three, up to 12, for a target up to 40).

Data: chain_sum and countdown of reasoning-gym, generated: pip install "irl_jax[reasoning]".
Claim: GRPO makes a policy solve more questions at its first attempt: pass@1 rose on every seed of
    both tasks, in two draws. But more questions than before were never solved, and in 16 attempts
    the policy did not surely solve more. Dynamic sampling has half the updates of as many
    completions, and in one draw pass@1 rose less with it on every seed. 3 seeds are few, and one of
    them rose by 0.07 to 0.12 in five draws. So no part of DAPO is claimed to pay or to cost.
Command: python -m experiments.r1_zero
Runtime: 23 min in one process, beside other runs; 1,931 s of CPU; peak memory 1.6 GiB.
Expected: experiments/r1_zero/expected.md. GRPO raises pass@1 by 0.065 and 0.089 on chain_sum, by
    0.117 and 0.130 on countdown.
"""
