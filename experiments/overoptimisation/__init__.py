"""Over-optimisation: how far can a policy be pushed against a learned reward, and what helps?

In the sandbox (`experiments.sandbox`) gold is known. Proxies learned from 128 to 2,048 noisy
comparisons are optimised by best-of-n, GRPO and DPO; gold and proxy reward are followed over
√KL and fitted with the forms of Gao et al. (arXiv 2210.10760). Then what is said to help is
held against plain GRPO at the same labels: ensembles, a KL penalty, a bounded reward, label
smoothing, new comparisons of what the policy writes half-way, stopping by a second proxy. A
seed is a world of its own: another source, taste and reference policy.

Claim: gold rises, then falls below the reference's while the proxy rises on. A KL penalty and
    new labels half-way surely keep gold up at the end of a run, corrected for the fourteen arms;
    ensembles, a bounded reward, label smoothing, stopping by a second proxy and four times the
    comparisons do not surely. At equal KL (2 nats) no mitigation is surely apart; proxies of
    fewer comparisons, or fewer units on as many, are surely behind: this by a former rule, see
    below.
Command: python -m experiments.overoptimisation
Runtime: 875 s of CPU, nothing compiled before; peak memory 1.5 GiB.
Expected: 24 worlds, means with 95 % t intervals, gold in standard deviations of the reference's, 0
    for the reference; p by Holm's procedure for the arms of a column. GRPO on one proxy of
    512 pairs and 64 units: top 0.77 [0.52, 1.01] at 6.2 nats [2.6, 9.7], then a fall of 2.40 [1.64,
    3.17] to -1.63 at 30 nats. At the end against that, paired, and what 6
    worlds on another processor had given:

                              24 worlds                 p    6 worlds
    KL penalty 0.3            2.37 [1.48, 3.26]    0.0002    2.44 [1.43, 3.45]
    KL penalty 0.1            1.94 [1.12, 2.76]    0.0008    1.58 [0.01, 3.15]
    relabelled half-way       1.43 [0.72, 2.13]     0.004    1.69 [0.42, 2.97]
    stopped by second proxy   0.71 [0.05, 1.36]      0.37    0.61 [-0.09, 1.31]
    ensemble mean             0.70 [0.16, 1.24]      0.14    0.26 [-0.93, 1.45]
    lower confidence bound    0.48 [-0.08, 1.03]     0.80    0.57 [-0.97, 2.12]
    worst case                0.45 [-0.11, 1.01]     0.87    0.61 [-0.87, 2.09]
    bounded reward            0.17 [-0.38, 0.72]      1.0    0.12 [-1.19, 1.44]
    label smoothing           0.01 [-0.40, 0.42]      1.0   -0.87 [-2.92, 1.18]
    2,048 pairs               0.01 [-1.17, 1.18]      1.0    1.05 [-0.29, 2.38]

    The figures at 2 nats are of a former rule for equal KL; `eval.frontier`, which reads a run
    where it first comes to that KL, gives others, not measured yet.
    Another Xeon's 6 worlds had relabelling at 1.02 [-0.32, 2.36]: six are too few. The 24 were run
    once, on a Xeon with AVX-512, and not repeated under another draw. At 2 nats, less
    the base's 0.52 [0.42, 0.62]: 128 pairs, 4 units -0.20 [-0.28, -0.11] (p 0.001); 128 pairs, 64
    units -0.13 [-0.19, -0.06] (0.009); 512 pairs, 4 units -0.10 [-0.17, -0.04] (0.04); KL penalty
    0.3 0.07 [0.01, 0.13] (0.16), relabelling, from half the labels at first, -0.09 [-0.15, -0.03]
    (0.06), bounded reward -0.06 [-0.10, -0.01] (0.13). Not every world gets to 10 nats. The tops:
    512 pairs, 4 units -0.16 [-0.26, -0.06] (0.04), else all within 0.17, p 0.6 and more.
    Fits with 64 units, resampled by world: GRPO on 128, 512, 2,048 pairs alpha 0.38, 0.49, 0.63,
    beta 0.41 [0.18, 0.66], 0.43 [0.28, 0.58], 0.53 [0.38, 0.70], R2 0.36, 0.36, 0.46, peak d* 0.94,
    1.12, 1.22 (earlier than the tops seen: the form bends too early for the fall); best-of-n alpha
    0.48, 0.64, 0.78, beta 0.13, 0.12, 0.15, R2 0.50, 0.80, 0.89: up to n = 128 gold flattens but
    does not fall. DPO turns on 128 pairs (0.48 at 3.4 nats, 0.04 at 10), not within 4 or 5 nats on
    more, where it reaches 0.79 and 1.12.
"""
