"""The table of GAIL, run again beside what its authors measured.

Ho & Ermon 2016 (arXiv 1606.03476) imitate expert policies on classic control from 1, 4, 7 or 10
episodes, of whose steps one in five or ten is kept: by behaviour cloning, and by generative
adversarial imitation. Here both learn from episodes of the same experts, each task in one program
over all seeds and numbers of demonstrations. Two controls: the reward with the opposite sign, and
an 'expert' that always pushes left. With a sign that suits the task, episodes end when they
should without a demonstration of it; in a fixed horizon no sign helps.

Data: `results.json` and the expert policies `CartPole-v0.npz`, `MountainCar-v0.npz` and
    `Acrobot-v0.npz`, made from `results/classic_results.h5` and from iteration 100 of
    `expert_policies/classic/` of https://github.com/openai/imitation (MIT). Rows of the first
    have `task`, `algorithm`, `demonstrations`, `run`, `mean_return`, `expert_return`; the others
    the mean `obs_mean` of observations, that of their squares, `obs_meansq`, and the layers
    `w0 b0 w1 b1 w2 b2`.
Claim: CLAIM
Command: python -m experiments.gail_2016 --data gail2016
Runtime: RUNTIME
Expected: experiments/gail_2016/expected.md. EXPECTED
"""
