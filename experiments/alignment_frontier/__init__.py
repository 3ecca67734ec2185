"""Ways to align a policy, at equal KL: the frontier of gold reward over KL.

In the sandbox (`experiments.sandbox`) the gold reward is known. The reference policy writes pairs,
and an annotator compares them with noise. DPO, IPO, KTO and SimPO learn from these comparisons. So
does a reward model, the proxy, which RLOO, GRPO, PPO, online DPO, ReMax, Nash-MD and best-of-n are
given. These seven are also run on the gold reward itself (as “PPO-GT” in the DPO paper). Online DPO
and Nash-MD see no reward, only what a Bradley-Terry judge makes of it. All sample as many
completions, counting ReMax's greedy one and Nash-MD's opponents.

Each method is run at several strengths of its pull to the reference and measured along its way. Its
gold at a KL is read off between the measurements, at the strength that was best in the other
worlds. Each seed is a world of its own: another source, taste and reference policy.

With `--model` the policy is a language model, each method trains a LoRA on it, and gold is the
valence of what it writes (`alignment_frontier.language`). Methods and report are the same. To add a
method, add a line to `METHODS`.

Claim: At equal KL, IPO is level with DPO up to 2 nats, and KTO and SimPO are behind it. RLOO, GRPO,
    PPO, online DPO, Nash-MD and ReMax on a proxy are behind DPO too, because the proxy is
    over-optimised. After correction for the methods of a column, online DPO and ReMax surely are,
    in two draws. On gold itself RLOO, GRPO, PPO, online DPO and Nash-MD are ahead of DPO, unlike
    PPO-GT in the DPO paper, and ReMax is behind it at 1 nat. No trained policy comes near best-of-n
    on gold, which is near the optimum.
Command: python -m experiments.alignment_frontier
Runtime: 15 min 43 s beside two other runs, nothing compiled before; 712 s of CPU; peak memory 1.7
    GiB. With `--seeds 4` 6 min 18 s and 567 s.
Expected: experiments/alignment_frontier/expected.md. At 2 nats DPO has 0.79 of gold, and RLOO on
    the proxy 0.15 less.

Reference: Rafailov et al. 2023, "Direct Preference Optimization", arXiv 2305.18290, figure 2.
Differs: gold is read off at equal KL, with intervals over worlds; their figure shows every run.
"""
