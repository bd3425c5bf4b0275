"""What a comparison could have found: the smallest difference of densities that its own exact test detects.

The null of "no finding" is empty until it is said what would have been one. Powers are sums of binomial probabilities
over the rejection region of the very test used, so nothing is assumed to be normal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.special import bdtrc, gammaln, xlog1py, xlogy

from saelens_data.stats.exact import fisher_exact, mcnemar_exact

#: Probability of a finding that is asked for.
POWER = 0.8
#: Densities of the rarer side for which a comparison says what it could have found.
DENSITIES = (0.05, 0.2, 0.5)
#: Counts up to this many get their critical value each; of more, `_KNOTS` do, and a line is drawn between those.
_EACH, _KNOTS = 600, 33
#: Halvings of a difference: to one part in a million.
_HALVINGS = 20
#: Of a given count and another: is the pair of them found?
_Found = Callable[[np.ndarray, np.ndarray], np.ndarray]


def detectable_unpaired(n_a: int, n_b: int, density: float, threshold: float, power: float = POWER) -> float:
    """Smallest d that Fisher's exact test finds in independent sets where A has `density` + d and B has `density`.

    Found means p < `threshold` with more in A, in at least `power` of all such comparisons. For the first finding
    of Benjamini and Hochberg's procedure the threshold is alpha / tests. NaN where not even d = 1 - `density` is.
    For a lower density in A give 1 - `density`: the test is the same for absence.
    """
    weight, critical = _region_unpaired(n_a, n_b, density, threshold)

    def at(difference: float) -> float:
        return float(weight @ bdtrc(critical - 1, n_a, min(density + difference, 1.0)))

    return _smallest(at, 1 - density, power)


def detectable_paired(n_pairs: int, density: float, threshold: float, phi: float, power: float = POWER) -> float:
    """Smallest d that McNemar's exact test finds among pairs where A has `density` + d and B has `density`.

    `phi` is the correlation of activity between partners, which says how many pairs differ (Connor 1987, Biometrics
    43:207-211): 0 for strangers, near 1 for partners that seldom differ; where no pairs can have it, the nearest
    possible one stands in. Otherwise as `detectable_unpaired`.
    """

    def at(difference: float) -> float:
        return power_paired(n_pairs, min(density + difference, 1.0), density, threshold, phi)

    return _smallest(at, 1 - density, power)


def detectable(
    n_a: int,
    n_b: int,
    threshold: float,
    *,
    phi: float | None = None,
    densities: Sequence[float] = DENSITIES,
    power: float = POWER,
) -> list[tuple[float, float]]:
    """(density in one set, smallest difference found if the other has more) for each density, whichever set it is.

    With `phi` the sets are n_a = n_b pairs. Sets of unequal size differ in what they can show; the larger counts.
    """
    if phi is not None:
        return [(at, detectable_paired(n_a, at, threshold, phi, power)) for at in densities]
    ways = {(n_a, n_b), (n_b, n_a)}
    return [(at, float(np.max([detectable_unpaired(*n, at, threshold, power) for n in ways]))) for at in densities]


def power_unpaired(n_a: int, n_b: int, density_a: float, density_b: float, threshold: float) -> float:
    """Probability of p < `threshold` with more in A by Fisher's exact test, at these densities."""
    weight, critical = _region_unpaired(n_a, n_b, density_b, threshold)
    return float(weight @ bdtrc(critical - 1, n_a, density_a))


def power_paired(n_pairs: int, density_a: float, density_b: float, threshold: float, phi: float) -> float:
    """Probability of p < `threshold` with more in A by McNemar's exact test, at these densities and `phi`."""
    only_a, only_b = _discordant(density_a, density_b, phi)
    if only_a <= 0:
        return 0.0
    differing, weight = _likely(n_pairs, min(only_a + only_b, 1.0))

    def found(d: np.ndarray, s: np.ndarray) -> np.ndarray:
        return np.asarray(mcnemar_exact(s, d - s) < threshold)

    critical = _critical(found, differing, (differing + 1) // 2, differing)
    return float(weight @ bdtrc(critical - 1, differing, only_a / (only_a + only_b)))


def pair_correlation(both: np.ndarray, count_a: np.ndarray, count_b: np.ndarray, n: int) -> float:
    """Correlation of activity between partners over all latents: the sum of covariances over that of their limits.

    `both`, `count_a`, `count_b` [latents]: pairs in which a latent is active in both, in A, in B; of `n` pairs.
    Common latents weigh more; the phi of a latent active in a handful of pairs says little. 0 where nothing varies.
    """
    r, a, b = (np.asarray(x, dtype=np.float64) / n for x in (both, count_a, count_b))
    spread = float(np.sqrt(a * (1 - a) * b * (1 - b)).sum())
    return float((r - a * b).sum()) / spread if spread else 0.0


def _discordant(a: float, b: float, phi: float) -> tuple[float, float]:
    """Shares of pairs active in A alone and in B alone; what both share is kept between Fréchet's bounds."""
    both = a * b + phi * np.sqrt(a * (1 - a) * b * (1 - b))
    both = min(max(both, a + b - 1, 0.0), a, b)
    return a - both, b - both


def _region_unpaired(n_a: int, n_b: int, density_b: float, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Counts of B that occur, as their probabilities, and the least count of A that is then found."""
    count_b, weight = _likely(n_b, density_b)

    def found(y: np.ndarray, x: np.ndarray) -> np.ndarray:
        return np.asarray(fisher_exact(x, y, n_a, n_b) < threshold)

    return weight, _critical(found, count_b, count_b * n_a // n_b + 1, np.full(len(count_b), n_a))


def _likely(n: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Counts of a binomial within 8 standard deviations (and 8) of its mean, and their probabilities."""
    reach = 8 * np.sqrt(n * share * (1 - share)) + 8
    k = np.arange(max(int(n * share - reach), 0), min(int(n * share + reach), n) + 1)
    choose = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
    return k, np.exp(choose + xlogy(k, share) + xlog1py(n - k, -share))


def _critical(found: _Found, given: np.ndarray, low: np.ndarray, most: np.ndarray) -> np.ndarray:
    """The least count from `low` to `most` that is `found` beside each of `given`, or most + 1; by bisection."""
    if len(given) > _EACH:
        at = np.linspace(0, len(given) - 1, _KNOTS).astype(np.int64)
        return np.asarray(np.rint(np.interp(given, given[at], _critical(found, given[at], low[at], most[at]))))
    high = most + 1
    low = np.minimum(low, high)
    while (searched := np.flatnonzero(low < high)).size:
        middle = (low[searched] + high[searched]) // 2
        yes = found(given[searched], middle)
        high[searched[yes]] = middle[yes]
        low[searched[~yes]] = middle[~yes] + 1
    return low


def _smallest(power_at: Callable[[float], float], most: float, power: float) -> float:
    """The least difference up to `most` that reaches `power`, which rises with it; NaN if none does."""
    if not power_at(most) >= power:
        return float("nan")
    low, high = 0.0, most
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if power_at(middle) >= power else (middle, high)
    return high
