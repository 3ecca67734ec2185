"""Process rewards without annotators: which of n worked solutions is right?

A small policy is shown how sums such as 3+8-5 are worked out line by line, until it is
right four times in ten. Then it labels its own steps: from the end of each line it
completes the solution several times, and the share that comes out right is the label
(Math-Shepherd). Judges read the policy's hidden states and log-probs at the end of each
step and learn from those labels (PRM) or from the answers alone (ORM); an implicit PRM is
a policy trained on answers. They are held against each other, against a majority vote and
the policy's own log-prob, and asked where the first error is.

Data: chain_sum of reasoning-gym, generated: pip install "irl_jax[reasoning]".
Claim: judges that saw every step find the first error better than an outcome reward model read
    step by step, but the labels need no rollouts: the outcome as the label of every step does
    as well. To choose among whole solutions, process rewards are ahead of a majority vote, not
    of the ORM, and nothing is surely ahead of the policy's own log-prob.
Command: python -m experiments.process_rewards
Runtime: 181 s of CPU, 3 min 32 s beside another run; peak memory 1.8 GiB.
Expected: 3 seeds, 256 held-out questions each, 95 % intervals over questions, on one processor:
    they say nothing of other policies, and no correction is made for their number. Right answers,
    best of 16: ORM 0.583 [0.549, 0.620]; PRM (hard labels), mean over steps 0.582 [0.548, 0.616],
    weakest step 0.569 [0.534, 0.604]; PRM (soft), last step 0.576 [0.540, 0.611], weakest 0.551
    [0.518, 0.584]; the policy's log-prob 0.569 [0.535, 0.604]; majority vote 0.528 [0.494, 0.562];
    at random 0.403 [0.385, 0.420]; oracle 0.966 [0.952, 0.979]. PRM (soft, weakest step) minus ORM
    -0.033 [-0.053, -0.011], minus an ORM that spent the tokens of the rollouts on solutions
    -0.035 [-0.057, -0.014]; PRM (hard, weakest) minus the vote 0.041 [0.012, 0.072]. First errors
    told from right steps, AUC: PRM soft 0.811 [0.794, 0.825], hard 0.800 [0.784, 0.815]; the
    outcome as the label of every step 0.818 [0.804, 0.833]; ORM read step by step 0.777 [0.763,
    0.791], or 0.706 [0.685, 0.726] with a quarter of the questions. The implicit PRM learns its
    solutions by heart: 0.237 [0.207, 0.268] of its choices are right, fewer than by noise that
    scores equal solutions equally, 0.307 [0.276, 0.340]; its AUC is 0.634 [0.617, 0.650].
"""
