"""Documents of like length, so that length can be held equal."""

from __future__ import annotations

import numpy as np

#: Lengths of a stratum differ by less than a factor: the first of these with which so many documents are in one on
#: average. To concepts that fire as often in every unit, what 1.5 leaves of length is a lift of 1.01, and 2 of 1.04,
#: which shows only among many documents.
RATIOS = ((1.5, 1_000), (2.0, 40), (3.0, 40), (5.0, 40), (10.0, 40))


def strata_of(*lengths: np.ndarray) -> np.ndarray:
    """Documents of like length share a number from 0 on, [documents]; of several lengths, those alike in each.

    Strata are as wide in the logarithm of the length, not in documents: what is left of length within one depends on
    how far the lengths in it differ, and long texts differ most.
    """
    code = np.zeros(len(lengths[0]), dtype=np.int64)
    for ratio, least in RATIOS:
        steps = [np.floor(np.log(np.maximum(length, 1)) / np.log(ratio)).astype(np.int64) for length in lengths]
        code = np.unique(np.stack(steps), axis=1, return_inverse=True)[1]
        if (code.max(initial=0) + 1) * least <= len(code):
            return np.asarray(code)
    return np.zeros_like(code)
