"""Kernels of the comparisons: arrays in, arrays out. `docs/statistics.md` says why each was chosen.

Counts are integer arrays over latents; every function is vectorised over them and keeps their shape.
"""

from saelens_data.stats.counts import count_active, count_both, count_chosen
from saelens_data.stats.exact import fisher_exact, fisher_least_p, mcnemar_exact, mcnemar_least_p
from saelens_data.stats.intervals import LEVEL, newcombe_paired, newcombe_unpaired, wilson
from saelens_data.stats.multiple import benjamini_hochberg

__all__ = [
    "LEVEL",
    "benjamini_hochberg",
    "count_active",
    "count_both",
    "count_chosen",
    "fisher_exact",
    "fisher_least_p",
    "mcnemar_exact",
    "mcnemar_least_p",
    "newcombe_paired",
    "newcombe_unpaired",
    "wilson",
]
