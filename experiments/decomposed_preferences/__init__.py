"""What a few comparisons tell of a new annotator: directions of preference, and mixtures.

Decomposed reward models (Luo et al. 2025, arXiv 2502.13131) take the principal directions
of many people's comparisons as rewards and weigh them for each new person. Here people's
values are known: five attributes of 64 features, annotators with weights of their own on
them, Bradley-Terry labels. 200 annotators are learned from, 50 comparisons each; a new one
gives up to 50. Held against: the reward of the whole population; a mixture of rewards with
the posterior of a new annotator over them; directions of the annotators' mean comparisons,
which use who compared what; random and true directions; features without other people.

Claim: where people differ along the features' main axes, principal directions adapt as
    well as the true ones; where they do not, they are no better than random directions. The
    labels hardly enter them: a flipped label leaves the second moment as it is. Directions of
    annotators' means work in either case; a mixture is best where there are a few types.
Command: python -m experiments.decomposed_preferences
    (--features language_model.npz of a run of experiments.hh_rlhf_embedding adds real features)
Runtime: 1 min 9 s on 2 idle cores; 155 s of CPU with real features; peak memory 0.5 GiB.
Expected: held-out accuracy after 10 comparisons, mean over 10 populations with its 95 %
    interval over populations. Main axes: population 0.615 [0.603, 0.625], PCA with MAP weights
    0.710 [0.703, 0.716] (true directions 0.710, true weights 0.796), PCA with softmax weights
    0.695 [0.687, 0.702] (and 0.711 after 50, where MAP has 0.770), annotators' directions
    0.696 [0.690, 0.702], mixture 0.654 [0.646, 0.663], from scratch 0.564 [0.561, 0.567].
    Unrelated to variance: PCA 0.614 [0.607, 0.622], softmax 0.575 [0.566, 0.584], annotators'
    directions 0.693 [0.688, 0.699], population 0.616; much the same on real features (PCA
    0.613, annotators' 0.684). Four types: mixture 0.754 [0.726, 0.781], PCA 0.743
    [0.721, 0.766]. Principal directions explain 1.00 of the attributes on main axes, from
    400 comparisons on, and 0.08 where unrelated, as random ones do (5 of 64); of annotators'
    directions 0.91 with 10,000 comparisons and 0.30 with 400. With equal variances PCA finds the
    subspace (1.00) and not the attributes in it (cosine 0.71 [0.67, 0.75]; 1.00 otherwise), and
    adapts as well. Intervals are not corrected for their number; another processor's draws gave
    the same claims.
"""
