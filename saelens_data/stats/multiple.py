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
