"""Over-optimisation: how far can a policy be pushed against a learned reward, and what helps?

In the sandbox (`experiments.sandbox`) the gold reward is known. Proxies learned from 128 to 2,048
noisy comparisons are optimised by best-of-n, GRPO and DPO. Gold and proxy reward are followed over
√KL and fitted with the forms of Gao et al. (arXiv 2210.10760). Then remedies are compared with
plain GRPO at the same labels: ensembles, a KL penalty, a bounded reward, label smoothing, new
comparisons of what the policy writes half-way, stopping by a second proxy. Each seed is a world of
its own: another source, taste and reference policy.

Claim: Gold rises, then falls below the reference's while the proxy goes on rising. A KL penalty and
    new labels half-way surely keep gold up at the end of a run, after correction for the fourteen
    arms. Ensembles, a bounded reward, label smoothing, stopping by a second proxy and four times
    the comparisons do not surely. At equal KL (2 nats) no remedy is surely ahead of plain GRPO, and
    proxies of 128 comparisons are surely behind. A narrower proxy, and new labels half-way, which
    leave half as many for the first proxy, are behind by 0.1, not surely in both draws.
Command: python -m experiments.overoptimisation
Runtime: 875 s of CPU, nothing compiled before; peak memory 1.5 GiB.
Expected: experiments/overoptimisation/expected.md. Gold turns at about 6 nats. A KL penalty of 0.3
    ends 2.4 standard deviations higher.
"""
