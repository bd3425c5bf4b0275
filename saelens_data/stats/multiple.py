"""Many tests: their combination and correction."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

#: One-sided p-values beyond this count as this: one that is 1 must not outvote all other evidence.
_LEAST_Z = -3.0


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


def combine(
    presence: np.ndarray, more: np.ndarray, less: np.ndarray, strength: np.ndarray, up: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """One two-sided p-value from two independent tests of one latent; all arguments broadcast.

    `presence` the two-sided p of the first test, `more` and `less` its one-sided ones, `strength` the two-sided p of
    the second and `up` (-1, 0, 1) the side it favours, `weight` (0 to 1) the share of the second, known without them.
    Two looks are taken: the first test alone, and both together where they point the same way (Stouffer's sum of
    normal scores with weights, Lipták 1958); the p is twice the smaller (Bonferroni).
    """
    own, other = np.sqrt(1 - weight), np.sqrt(weight)
    z = np.sign(up) * -ndtri(strength / 2)
    scores = [own * np.maximum(-ndtri(tail), _LEAST_Z) + side * other * z for tail, side in ((more, 1), (less, -1))]
    together = 2 * ndtr(-np.maximum(*scores))
    return np.asarray(np.minimum(2 * np.minimum(presence, together), 1.0))


def simes(p: np.ndarray) -> np.ndarray:
    """p-value [...] of the hypothesis that none of several tests [..., tests] has anything to show.

    Simes (1986), Biometrika 73:751-754. A test that does not count has p = NaN; without any the result is 1.
    """
    ordered = np.sort(p, axis=-1)
    n = np.sum(~np.isnan(p), axis=-1, keepdims=True)
    scaled = ordered * n / np.arange(1, p.shape[-1] + 1)
    return np.asarray(np.minimum(np.min(np.where(np.isnan(scaled), 1.0, scaled), axis=-1), 1.0))
