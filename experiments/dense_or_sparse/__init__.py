"""Dense or sparse: a reward at the end, or a teacher at every token, at equal compute.

A small decoder that was shown a few sums practises others. It spends a budget of compute, counted
in passes over tokens, on GRPO by whether its answers are right; on distillation from a larger
decoder that knows the answers, by KL(policy‖teacher) at its own tokens or KL(teacher‖policy) at the
teacher's; on both, one after the other; or it lets a larger decoder that knows no more than itself
practise by GRPO first, and learns from that. The control is that decoder before it practised.

Claim: A teacher that knows the answers is worth more than the reward at 200 batches, and not surely
    more at 50. A teacher that has to find them first, on half of the budget, is worth
    less than the student's own practice, and one that knows no more is worth nothing.
Command: python -m experiments.dense_or_sparse
Runtime: 25 min 4 s beside many other runs on 2 cores, 495 s of CPU.
Expected: experiments/dense_or_sparse/expected.md. After 200 batches answers to practised questions
    are right in 28 % by the reward, 43 % and 47 % after a teacher that knows, 13 and 14 % after one
    that practised first, in two draws.
"""
