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

Claim: No. From 32 demonstrations λ lowers −log π of unseen ones and self-BLEU, the more the greater
    it is, and stopping MLE early lowers both further, with nothing left for λ to add; from 512 λ
    hardly does. Gold at MLE's self-BLEU is surely higher for no λ.
Command: python -m experiments.mle_or_inverse_q
Runtime: 380 s of CPU; 48 min of a machine of 2 cores that many other runs shared.
Expected: experiments/mle_or_inverse_q/expected.md. From 32 demonstrations λ = 1 has 7.0 and 7.5
    nats less of −log π than MLE, and MLE that is stopped 17.9 and 19.0 less, on two draws of 8
    worlds.

Reference: Wulfmeier et al. 2024, "Imitating Language via Scalable Inverse Reinforcement Learning",
    arXiv 2409.01369.
"""
