"""The table of GAIL, run again beside what its authors measured.

Ho & Ermon 2016 (arXiv 1606.03476) imitate expert policies on classic control from 1, 4, 7 or 10
episodes, of whose steps one in five or ten is kept: by behaviour cloning, and by generative
adversarial imitation. Here both learn from episodes of the same experts, each task in one program
over all seeds and numbers of demonstrations. A sign of the reward that suits the task may do the
learning by itself. So GAIL also learns from one whole episode in a fixed horizon, where episodes
tell nothing by their end, and there are two controls: the reward with the opposite sign, and an
'expert' that always pushes left.

Data: `results.json` and the expert policies `CartPole-v0.npz`, `MountainCar-v0.npz` and
    `Acrobot-v0.npz`, made from `results/classic_results.h5` and from iteration 100 of
    `expert_policies/classic/` of https://github.com/openai/imitation (MIT). Rows of the first
    have `task`, `algorithm`, `demonstrations`, `run`, `mean_return`, `expert_return`; the others
    the mean `obs_mean` of observations, that of their squares, `obs_meansq`, and the layers
    `w0 b0 w1 b1 w2 b2`.
Differs: policies learn by PPO from 200,000 steps, γ = 0.9, the authors' by TRPO from 1.5 million,
    γ = 0.995; the discriminator has a gradient penalty, theirs a bonus for its entropy; networks
    have two layers of 32 ReLU, theirs 100 tanh. Each seed draws its own demonstrations, their runs
    share one set. Observations are in the demonstrations' units throughout, theirs go on with the
    policy's. As theirs are: which steps are kept (one in ten for CartPole, in five otherwise), the
    sign of each task, how cloning chooses its policy, and greedy policies in 50 episodes.
Claim: Behaviour cloning returns what the authors' does. From one demonstration GAIL is better than
    cloning on CartPole, in one of two runs on MountainCar, in none on Acrobot, and with a seventh
    of their steps mostly below their GAIL. The opposite sign is worse on CartPole alone. An
    'expert' that pushes left is imitated, but with γ = 0.99 the sign of CartPole's reward holds the
    pole from one such step; in a fixed horizon it does not.
Command: python -m experiments.gail_2016 --data gail2016
Runtime: 13 min 37 s beside other runs, 348 s of CPU, on one core; peak memory 1.4 GiB.
Expected: experiments/gail_2016/expected.md. From one demonstration GAIL
    returns 186 and cloning 64 on CartPole, -110 and -128 on MountainCar, -104 and -142 on Acrobot.
"""
