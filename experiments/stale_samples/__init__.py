"""Stale samples: what may be learned from completions of the policy that it was 32 updates ago?

Where sampling and learning run side by side, as in asynchronous reinforcement learning, the
completions are of an earlier policy. A small decoder that was shown a few sums practises others by
a policy gradient, whether its answers are right. What it learns from was written 32 updates before,
and is taken as if it were fresh, by clipped ratios (GRPO), without the stale completions that are
to be made less likely (DeepSeek-V3.2), by importance weights of tokens or of whole completions that
are truncated (IMPALA), or masked where the two policies differ too much (IcePop; masked importance
sampling). The controls are fresh samples, and stale ones that are taken as fresh.

Claim: Each of the six corrections surely teaches more than taking stale samples as fresh, and none
    of them comes near to fresh samples.
Command: python -m experiments.stale_samples
Runtime: 33 min beside other runs on 2 cores, some 17 of CPU, nothing compiled before.
Expected: experiments/stale_samples/expected.md. Answers are right in 30 % after fresh samples, in
    11 % after stale ones taken as fresh, in 16 to 19 % after corrected ones, in one draw.
"""
