"""Likelihood or an inverse soft Q: which imitates a language better?

A language model can imitate demonstrations by their likelihood (MLE), or by IQ-Learn, which adds
λ times the square of the reward that its logits imply, r = Q − V of what follows (Wulfmeier et al.
2024). Both take the same updates on the same batches, and are sampled at several temperatures: a
colder policy is better and less diverse, so that methods are compared where their samples are as
alike, by self-BLEU. In the sandbox (`experiments.sandbox`) an expert writes as the reference does,
but for what gold likes, π_E ∝ π_ref exp(1.5 gold), and quality is gold. With `--solutions.train`
and `--solutions.test`, SmolLM2-135M-Instruct learns GSM8K's human solutions, too; it solves next to
nothing, so that likelihood, the form of the answer and self-BLEU are what tells.

One control is λ = 0, which is MLE written as an inverse soft Q. Others are MLE and the greatest λ,
stopped where −log π of demonstrations that nothing else reads is least.

Claim: From 32 demonstrations λ lowers −log π of unseen ones and self-BLEU, the more the greater it
    is; from 512 it hardly does. Gold at equal self-BLEU differs surely for no λ.
Command: python -m experiments.mle_or_inverse_q
Runtime: 280 s of CPU; 28 min of a machine of 2 cores that many other runs shared.
Expected: experiments/mle_or_inverse_q/expected.md. From 32 demonstrations λ = 1 has 7.0 nats less
    of −log π than MLE (43.8), on one draw of 8 worlds.

Reference: Wulfmeier et al. 2024, "Imitating Language via Scalable Inverse Reinforcement Learning",
    arXiv 2409.01369.
"""
