"""Does a rubric with learned weights learn more from a comparison than a reward on embeddings?

People like a weighted sum of six hidden criteria, each a threshold on a direction of a response's
64-dimensional embedding, and give Bradley-Terry labels. A rubric has these six and four idle ones,
whose signs its author guessed; a judge says yes or no to each, and errs. The rubric's weights are
learned from comparisons (`rewards.rubrics.learned_weights`), from its own weights or from 0. From
as many comparisons a linear reward and an ensemble of perceptrons learn on the embeddings.

Off the distribution of the comparisons the embeddings vary in directions in which they hardly
varied before. What a criterion means stays as it is, and so does the judge, but for the arm whose
judge errs more there. That is an assumption of this world and no finding.

Claim: A rubric with a good judge orders surely more pairs right than rewards on embeddings from
    every number of comparisons, on the distribution and off it. With a judge that errs in 30 % of
    cases it is behind once there are 100 comparisons (off the distribution 400), without half of
    the criteria once there are 1,600. Gold has the form of a rubric, which favours rubrics.
Command: python -m experiments.rubrics
Runtime: 21 s of CPU with a full compilation cache, 6 minutes beside many other runs.
Expected: experiments/rubrics/expected.md. After 100 comparisons 0.832 of pairs in order by the
    rubric, 0.649 by perceptrons.
"""
