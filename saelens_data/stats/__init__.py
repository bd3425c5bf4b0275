"""Kernels of the comparisons: arrays in, arrays out. `docs/statistics.md` says why each was chosen.

Counts are integer arrays over latents; every function is vectorised over them and keeps their shape.
"""

from saelens_data.stats.clusters import ClusterTest, Permutation, cluster_test, permutation, relabel
from saelens_data.stats.counts import count_active, count_both, count_chosen, pattern
from saelens_data.stats.exact import (
    fisher_exact,
    fisher_least_p,
    mcnemar_exact,
    mcnemar_least_p,
)
from saelens_data.stats.intervals import LEVEL, newcombe_paired, newcombe_unpaired, wilson
from saelens_data.stats.multiple import benjamini_hochberg, simes
from saelens_data.stats.power import detectable, pair_correlation
from saelens_data.stats.strength import (
    Strength,
    all_signed_ranks,
    pooled_ranks,
    rank_scores,
    rank_sum,
    rank_sum_of,
    signed_rank,
    signed_rank_least_p,
    signed_rank_p,
)

__all__ = [
    "LEVEL",
    "ClusterTest",
    "Permutation",
    "Strength",
    "all_signed_ranks",
    "benjamini_hochberg",
    "cluster_test",
    "count_active",
    "count_both",
    "count_chosen",
    "detectable",
    "fisher_exact",
    "fisher_least_p",
    "mcnemar_exact",
    "mcnemar_least_p",
    "newcombe_paired",
    "newcombe_unpaired",
    "pair_correlation",
    "pattern",
    "permutation",
    "pooled_ranks",
    "rank_scores",
    "rank_sum",
    "rank_sum_of",
    "relabel",
    "signed_rank",
    "signed_rank_least_p",
    "signed_rank_p",
    "simes",
    "wilson",
]
