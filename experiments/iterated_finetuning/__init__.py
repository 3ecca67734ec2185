"""Fine-tuning on the best of one's own samples, round after round, against GRPO.

In the sandbox (`experiments.sandbox`) the gold reward is known. In each round a policy writes
completions, a reward judges them, and the policy learns from some of them:

- RAFT from the best of each prompt's;
- ReST from those above a quantile of the round's rewards, which rises from epoch to epoch;
- STaR from those that are right, starting over from the reference policy;
- GRPO from all, by their advantages.

All have the same number of samples, epochs and updates in a round. The reward is a proxy learned
from noisy comparisons, or gold itself. To STaR a completion is right if the reference policy writes
a better one at most once in five times. Each seed is a world of its own: another source, taste and
reference policy.

To add a recipe, add a line to `RECIPES`.

Claim: On the gold reward RAFT and ReST gain more than GRPO from as many samples, by going further
    from the reference; at equal KL GRPO is ahead of both. On the proxy GRPO is ahead of both, at
    equal KL and at the end, where going further costs them. STaR, which starts over each time, goes
    least far and gains least on gold.
Command: python -m experiments.iterated_finetuning
Runtime: 681 s of CPU on a slow machine (92 GFLOP/s of f32), nothing compiled before; peak memory
    1.6 GiB.
Expected: experiments/iterated_finetuning/expected.md. On gold, ReST ends 0.80 standard deviations
    ahead of GRPO.

Reference: Dong et al. 2023, "RAFT", arXiv 2304.06767; Gulcehre et al. 2023, "Reinforced
    Self-Training (ReST) for Language Modeling", arXiv 2308.08998; Zelikman et al. 2022, "STaR",
    arXiv 2203.14465; Shao et al. 2024, arXiv 2402.03300 (GRPO).
Differs: samples of earlier rounds and demonstrations are not mixed in, and STaR has no
    rationalisation (there are no wrong answers to explain here).
"""
