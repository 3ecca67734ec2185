"""Which learned rewards are right in changed dynamics, and which only imitate: exactly.

In random processes an expert plans softly for a reward of states. Its visits are known exactly, and
so is what an adversarial imitator's discriminator has learned when the policy is the expert's: AIRL
with a reward of states g and a potential h, f = g(s) + γ h(s′) − h(s); AIRL with a reward of states
and actions, whose f is log π_E; GAIL, whose last discriminator is constant, and whose first is the
ratio to the uniform policy; and, not adversarial, a reward of states by maximum causal entropy.
Each is planned for where it was learned, where actions have other names, and where moves lead
elsewhere.

Claim: AIRL's reward of states is the true one but for a constant, and transfers, where the process
    is deterministic, all its states are linked, and the reward is one of states. Where one of these
    fails it does not. AIRL's reward of states and actions imitates and does not transfer, and
    GAIL's last is none.
Command: python -m experiments.reward_transfer
Runtime: 41 s, 15 s of CPU, on one core beside other runs.
Expected: experiments/reward_transfer/expected.md. Where all moves lead elsewhere the regret of
    AIRL's reward of states is 0.00, that of its reward of states and actions 0.46.
"""
