"""Fine-tuning on the best of one's own samples, round after round, against GRPO.

In the sandbox (`experiments.sandbox`) gold is known. In every round a policy writes completions,
a reward judges them, and the policy learns from them:

    RAFT   from the best of each prompt's
    ReST   from those above a quantile of the round's rewards, which rises from epoch to epoch
    STaR   from those that are right, starting over from the reference policy
    GRPO   from all, by their advantages

with the same samples, epochs and updates in a round. The reward is a proxy learned from noisy
comparisons, or gold itself. To STaR a completion is right if the reference policy writes a
better one at most once in five times. A seed is a world of its own: another source, taste
and reference policy.

To add a recipe, add a line to `RECIPES`.

Claim: on the gold reward RAFT and ReST gain more from as many samples than GRPO does, by going
    further from the reference; at equal KL GRPO is ahead of both. On the proxy GRPO is ahead of
    both at equal KL and at the end, where going further costs them. STaR, which forgets, goes
    least far and gains least on gold.
Command: python -m experiments.iterated_finetuning
Runtime: 681 s of CPU on a slow machine (92 GFLOP/s of f32), nothing compiled before; peak memory
    1.6 GiB.
Expected: 12 worlds, 2,560 samples in 10 rounds, on an AMD EPYC without AVX-512; not repeated under
    another draw, but for 5 worlds on another processor. Means with 95 % t intervals over worlds,
    gold in standard deviations of the reference's, 0 for the reference; KL in nats; less GRPO,
    paired, with p by Holm's procedure for the six of a column (four at 4 nats).

                     KL     gold at the end       less GRPO                      5 worlds, before
    on gold   GRPO   12.0   3.02 [2.63, 3.41]                                    3.24 [2.87, 3.61]
              RAFT   23.9   3.71 [3.38, 4.03]     0.68 [0.47, 0.90]    9e-5      0.63 [0.41, 0.84]
              ReST   21.6   3.82 [3.39, 4.25]     0.80 [0.61, 0.99]    8e-6      0.74 [0.35, 1.14]
              STaR    6.9   1.18 [0.99, 1.38]    -1.84 [-2.16, -1.52]  4e-7     -1.98 [-2.17, -1.78]
    on proxy  GRPO    7.8   1.07 [0.83, 1.32]                                    1.06 [0.69, 1.43]
              RAFT   21.7  -0.22 [-1.12, 0.68]   -1.30 [-2.21, -0.39]  0.02     -2.06 [-3.93, -0.19]
              ReST   17.9   0.18 [-0.58, 0.94]   -0.89 [-1.74, -0.05]  0.04     -1.11 [-2.51, 0.28]
              STaR    6.3   0.40 [0.02, 0.78]    -0.68 [-0.97, -0.39]  0.001    -0.58 [-0.89, -0.27]

    where each comes to 4 nats (not all worlds of STaR do)
    on gold   GRPO          1.56 [1.45, 1.68]                                    1.60 [1.36, 1.84]
              RAFT          1.04 [0.96, 1.13]    -0.52 [-0.66, -0.38]  2e-5     -0.59 [-0.93, -0.25]
              ReST          1.32 [1.23, 1.42]    -0.24 [-0.31, -0.17]  2e-5     -0.19 [-0.31, -0.07]
    on proxy  GRPO          0.90 [0.79, 1.01]                                    0.93 [0.77, 1.08]
              RAFT          0.64 [0.46, 0.82]    -0.26 [-0.40, -0.12]  0.003    -0.39 [-0.71, -0.07]
              ReST          0.75 [0.59, 0.91]    -0.15 [-0.29, -0.01]  0.04     -0.26 [-0.43, -0.08]

    All share one learning rate and 12 updates a round; another would move them along their curves,
    so that the comparison at equal KL says more than that at the end.

Reference: Dong et al. 2023, "RAFT", arXiv 2304.06767; Gulcehre et al. 2023, "Reinforced
    Self-Training (ReST) for Language Modeling", arXiv 2308.08998; Zelikman et al. 2022, "STaR",
    arXiv 2203.14465; Shao et al. 2024, arXiv 2402.03300 (GRPO).
Differs: samples of earlier rounds and demonstrations are not mixed in, and STaR has no
    rationalisation (there are no wrong answers to explain here).
"""
