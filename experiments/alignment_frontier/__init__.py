"""Ways to align a policy, at equal KL: the frontier of gold reward over KL.

In the sandbox (`experiments.sandbox`) gold is known. The reference policy writes pairs, which
an annotator compares with noise; DPO, IPO, KTO and SimPO learn from these comparisons, and so
does a reward model, the proxy, that RLOO, GRPO, PPO, online DPO, ReMax, Nash-MD and best-of-n
are given. The latter seven are also run on the gold reward itself (as “PPO-GT” in the DPO
paper); online DPO and Nash-MD see no reward, but what a Bradley-Terry judge makes of it. All
sample as many completions, ReMax's greedy one and Nash-MD's opponents among them. Each method is
run at several strengths of its pull to the reference and measured along its way; what it is
worth at a KL is read off between the measurements, at the strength that was best in the other
worlds. A seed is a world of its own: another source, taste and reference policy.

With `--model` the task is a language model's, each method trains a LoRA on it, and gold is the
valence of what it writes (`alignment_frontier.language`): the same table of methods, the same
report. To add a method, add a line to `METHODS`.

Claim: at equal KL, IPO is level with DPO up to 2 nats, and KTO and SimPO behind. RLOO, GRPO, PPO,
    online DPO, Nash-MD and ReMax on a proxy are behind DPO too, by more at 2 or 3 nats than at 1,
    where the proxy is over-optimised; corrected for the methods of a column each surely at some KL
    but PPO and Nash-MD. On gold itself they are ahead of it (ReMax only at 3 nats), unlike PPO-GT
    in the DPO paper. No policy that was trained comes near best-of-n on gold, which is near the
    optimum.
Command: python -m experiments.alignment_frontier
Runtime: 15 min 43 s beside two other runs, nothing compiled before; 712 s of CPU; peak memory 1.7
    GiB. With `--seeds 4` 6 min 18 s and 567 s.
Expected: 8 worlds on one processor, not repeated under another draw, means with 95 % t intervals
    over worlds, none corrected here: by Holm's procedure, from these intervals, KTO, SimPO, online
    DPO and ReMax on the proxy stay sure at 1 nat, ReMax at 2, IPO, RLOO, GRPO and ReMax at 3, and
    on gold all that is ahead. Gold in standard deviations of the reference's (SFT: 0 at 0 nats).
    DPO 0.63 [0.57, 0.68] at 1 nat, 0.79 [0.72, 0.86] at 2, 0.97 [0.91, 1.03] at 3. Less DPO,
    paired, at 1 / 2 / 3 nats, where all worlds get there: IPO -0.00 [-0.03, 0.03] / -0.01 [-0.03,
    0.01] / -0.02 [-0.03, -0.00]; KTO -0.09 [-0.13, -0.05] / -0.05 [-0.08, -0.02]; SimPO -0.17
    [-0.22, -0.11] / -0.16 [-0.26, -0.06]. On the proxy: RLOO -0.09 [-0.17, -0.01] / -0.15 [-0.29,
    -0.01] / -0.27 [-0.45, -0.09]; GRPO -0.13 [-0.23, -0.03] / -0.17 [-0.35, 0.01] / -0.31 [-0.51,
    -0.11]; PPO -0.09 [-0.18, -0.01] / -0.15 [-0.30, -0.01]; online DPO -0.23 [-0.30, -0.16]; ReMax
    -0.16 [-0.23, -0.08] / -0.23 [-0.36, -0.10] / -0.35 [-0.48, -0.22]; Nash-MD -0.09 [-0.18, 0.01]
    / -0.17 [-0.32, -0.02]; best-of-n -0.04 [-0.13, 0.06] / -0.03 [-0.17, 0.11] / -0.10 [-0.29,
    0.09]. On gold: RLOO 0.11 [0.04, 0.17] / 0.31 [0.23, 0.39] / 0.42 [0.36, 0.48]; GRPO 0.11 [0.05,
    0.17] / 0.23 [0.13, 0.34] / 0.33 [0.19, 0.47]; PPO 0.12 [0.07, 0.18] / 0.26 [0.17, 0.35] / 0.31
    [0.24, 0.38]; online DPO 0.10 [0.06, 0.13] / 0.20 [0.13, 0.27]; ReMax -0.11 [-0.18, -0.04] /
    0.04 [-0.09, 0.18] / 0.14 [0.04, 0.24]; Nash-MD 0.10 [0.04, 0.16] / 0.35 [0.26, 0.44] / 0.32
    [0.22, 0.41]; best-of-n 0.52 [0.40, 0.63] / 0.84 [0.65, 1.02] / 1.06 [0.84, 1.28]. The optimum
    has 1.26 [1.15, 1.36] and 1.73 [1.55, 1.91] at 1 and 2 nats. GRPO with a weak pull runs off on
    the proxy: gold -1.6 at 30 nats. The proxy is small perceptrons on the reference's embeddings,
    DPO trains the whole decoder: a better reward model may close the gap. Two strengths each and
    one learning rate for all, chosen after a pilot on the first four worlds; those of online DPO,
    ReMax and Nash-MD were not tried out.
    SmolLM2 (--model smollm2 --methods DPO GRPO --teachers proxy --seeds 3; 338 s of CPU for
    the three runs of GRPO, 7 min for worlds and DPO, 3.1 GiB): gold at 1 nat DPO 0.21 [0.10, 0.31],
    GRPO on the proxy 0.15 [-0.07, 0.37], less DPO -0.06 [-0.26, 0.14]; best-of-n on the proxy 0.33
    [-0.29, 0.96], on gold 1.24 [1.11, 1.38]. Updates are few and worlds too; the other methods were
    not measured on it.

Reference: Rafailov et al. 2023, "Direct Preference Optimization", arXiv 2305.18290, figure 2.
Differs: gold is read off at equal KL, with intervals over worlds; their figure shows every run.
"""
