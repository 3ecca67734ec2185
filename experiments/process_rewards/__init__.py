"""Process rewards without annotators: which of n worked solutions is right?

A small policy is shown how sums such as 3+8-5 are worked out line by line, until it is right four
times in ten. Then it labels its own steps: it completes the solution several times from the end of
each line, and the share that comes out right is the label (Math-Shepherd). Judges read the policy's
hidden states and log-probs at the end of each step. They learn from those labels (PRM) or from the
answers alone (ORM). An implicit PRM is a policy trained on answers. All are compared with each
other, with a majority vote and with the policy's own log-prob, and are asked where the first error
is.

Data: chain_sum of reasoning-gym, generated: pip install "irl_jax[reasoning]".
Claim: Judges that saw every step find the first error better than an outcome reward model (ORM)
    that is read step by step. Their labels need no rollouts: the outcome as the label of every step
    does as well. To choose among whole solutions, process rewards are ahead of a majority vote but
    not of the ORM, and nothing is surely ahead of the policy's own log-prob.
Command: python -m experiments.process_rewards
Runtime: 181 s of CPU, 3 min 32 s beside another run; peak memory 1.8 GiB.
Expected: experiments/process_rewards/expected.md. First errors are found with AUC 0.81 by the PRM,
    0.78 by the ORM.
"""
