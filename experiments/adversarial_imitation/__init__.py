"""Imitation of recorded experts in a fixed horizon, and controls that must fail.

Where an episode can end, the sign of a reward may do the learning by itself. Here every episode
lasts 200 steps: a pole that fell lies in an absorbing state, and no length tells anything.
Behaviour cloning, DAgger, SQIL, IQ-Learn with and without an environment, GAIL, FAIRL and AIRL
learn CartPole and the pendulum's swing-up from few recorded steps of real experts: of one episode
and of eight one step in ten and one in five is kept. None of them sees a reward of the task. What
must fail: to be shown pushes to the left (always the first action, on the pendulum a torque of -2
Nm) in place of the expert, GAIL's reward with the opposite sign, and a constant in its place. A
method that comes to the expert's return under such a control learned it from something else.

Data: `cartpole.npz` (57 episodes) and `pendulum.npz` (56), made from the test data of
    https://github.com/HumanCompatibleAI/imitation (MIT): `obs` with one row more an episode than
    `acts` and `rews`, and `indices`, where `acts` is split into episodes.
Differs: torques are -2, -1, 0, 1 or 2 Nm, of the expert the nearest is shown, beside the state that
    its own torque led to. DAgger needs somebody to ask: a clone of all recorded episodes, whose own
    return is reported. GAIL's reward is half of log D - log(1 - D). IQ-Learn in the environment
    takes V(s') from a target network. Episodes have 200 steps where the recorded ones of CartPole
    went on to 500.
Claim: From few demonstrations DAgger and GAIL return more than behaviour cloning on both tasks, and
    SQIL, AIRL and IQ-Learn on the pendulum. FAIRL learns neither. The controls fail, but that GAIL,
    shown pushes to the left, held the pole in two of ten runs.
Command: python -m experiments.adversarial_imitation --data imitation_experts
Runtime: 368 s of CPU on one core, 53 min beside a dozen other programs.
Expected: experiments/adversarial_imitation/expected.md. DAgger
    returns 200 on CartPole and -208 on the pendulum, GAIL 200 and -315, cloning 86 and -1064.
"""
