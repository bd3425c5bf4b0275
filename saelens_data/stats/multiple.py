"""Many tests: their combination and correction."""

from __future__ import annotations

import numpy as np


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values (q) that control the false discovery rate over the tests `p` [n].

    Benjamini & Hochberg (1995), J. R. Stat. Soc. B 57:289-300.
    """
    p = np.asarray(p, dtype=np.float64)
    order = np.argsort(p)
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty_like(p)
    q[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    return np.asarray(np.minimum(q, 1.0))


def simes(p: np.ndarray) -> np.ndarray:
    """p-value [...] of the hypothesis that none of several tests [..., tests] has anything to show.

    Simes (1986), Biometrika 73:751-754. A test that does not count has p = NaN; without any the result is 1.
    """
    ordered = np.sort(p, axis=-1)
    n = np.sum(~np.isnan(p), axis=-1, keepdims=True)
    scaled = ordered * n / np.arange(1, p.shape[-1] + 1)
    return np.asarray(np.minimum(np.min(np.where(np.isnan(scaled), 1.0, scaled), axis=-1), 1.0))
