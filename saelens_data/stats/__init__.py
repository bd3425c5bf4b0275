"""Kernels of the comparisons: arrays in, arrays out. `docs/statistics.md` says why each was chosen.

Counts are integer arrays over latents; every function is vectorised over them and keeps their shape.
"""

from saelens_data.stats.clusters import ClusterTest, cluster_test, relabel
from saelens_data.stats.counts import count_active, count_both, count_chosen
from saelens_data.stats.exact import (
    fisher_exact,
    fisher_least_p,
    fisher_tails,
    mcnemar_exact,
    mcnemar_least_p,
    mcnemar_tails,
)
from saelens_data.stats.intervals import LEVEL, newcombe_paired, newcombe_unpaired, wilson
from saelens_data.stats.multiple import benjamini_hochberg, combine, simes
from saelens_data.stats.power import detectable, pair_correlation
from saelens_data.stats.strength import (
    Strength,
    pooled_ranks,
    rank_sum,
    rank_sum_least_p,
    rank_sum_p,
    signed_rank,
    signed_rank_least_p,
    signed_rank_p,
    signed_ranks,
)

__all__ = [
    "LEVEL",
    "ClusterTest",
    "Strength",
    "benjamini_hochberg",
    "cluster_test",
    "combine",
    "count_active",
    "count_both",
    "count_chosen",
    "detectable",
    "fisher_exact",
    "fisher_least_p",
    "fisher_tails",
    "mcnemar_exact",
    "mcnemar_least_p",
    "mcnemar_tails",
    "newcombe_paired",
    "newcombe_unpaired",
    "pair_correlation",
    "pooled_ranks",
    "rank_sum",
    "rank_sum_least_p",
    "rank_sum_p",
    "relabel",
    "signed_rank",
    "signed_rank_least_p",
    "signed_rank_p",
    "signed_ranks",
    "simes",
    "wilson",
]
