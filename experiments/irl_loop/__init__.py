"""Inverse RL by turns, on a language whose reward is known.

In the sandbox (`experiments.sandbox`) an expert writes as the reference policy does, but for what
gold likes: π_E ∝ π_ref exp(1.5 gold). From some of its sentences policies learn by likelihood
(SFT), as soft Q (IQ-Learn), against their own samples (SPIN), for a reward that tells
demonstrations from the reference's samples (AfD), or for one that is learned by turns with the
policy (GAIL, AIRL, R-AIRL, RARO; `irl_jax.train.adversarial`, as in `irl-jax irl`). All take as
many updates. The recovered reward is compared with gold on other prompts, and then optimised hard.

Claim: From 512 demonstrations SFT, IQ-Learn and SPIN are level; GAIL, AIRL, R-AIRL and RARO are
    surely behind SFT after 120 updates, in two draws of worlds. The rewards of SFT, IQ-Learn and
    R-AIRL order sentences by gold best. Optimised hard, every recovered reward leads gold down,
    surely so all but those of SFT and IQ-Learn.
Command: python -m experiments.irl_loop
Runtime: 19 min 20 s beside other runs on 2 cores, nothing compiled before; 787 s of CPU.
Expected: experiments/irl_loop/expected.md. With 512 demonstrations SFT has gold 0.77, R-AIRL 0.52,
    GAIL 0.43, AIRL 0.33, RARO 0.30; the demonstrations have 1.20.

Reference: Sun & van der Schaar 2024, "Inverse-RLignment: Large Language Model Alignment from
    Demonstrations through Inverse Reinforcement Learning", arXiv 2405.15624 (AfD).
"""
