"""A proposer and a solver of sums: is what a model proposes to itself worth practising?

A small decoder was shown sums of two and three numbers as people write them, and a few worked
solutions. Two copies of it go on without people (R-Zero): the proposer writes sums, which are
parsed and never run, the solver practises them by GRPO, and the proposer is rewarded where the
solver is right every other time, 1 − |2p − 1|, divided by how often the sum is in the batch. The
controls practise as many solutions: of sums drawn at random with as many numbers as those that were
proposed for the same batch, and of sums of any number of numbers. Held-out sums as people write
them judge all; nobody practises them.

Claim: No. The proposer soon writes a few sums that the solver can do, and the solver then answers
    fewer held-out sums than before; sums drawn at random teach it nothing either.
Command: python -m experiments.proposer_solver
Runtime: 4 minutes on 2 cores, 3 of CPU.
Expected: experiments/proposer_solver/expected.md. Held-out sums are answered rightly in 0.086
    and 0.093 before, 0.060 and 0.058 after proposed sums, 0.078 and 0.071 after as many numbers
    at random, in two draws of 8 models.

Reference: Huang et al. 2025, "R-Zero: Self-Evolving Reasoning LLM from Zero Data", arXiv
    2508.05004; Zhao et al. 2025, "Absolute Zero: Reinforced Self-play Reasoning with Zero Data",
    arXiv 2505.03335.
"""
