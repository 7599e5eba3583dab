"""The population stability index: how far one distribution has moved from another. numpy only.

Of bins i with shares p_i then and q_i now: sum (q_i - p_i) ln(q_i / p_i); a bin that is empty
counts as half an observation. Usual reading: below 0.1 little has changed, from 0.25 much.
"""

import numpy as np
from numpy.typing import NDArray

TENTHS = 10
FEW, MUCH = 0.1, 0.25
"""From which a change is some, and much."""


def psi(before: NDArray, now: NDArray) -> float | None:
    """The index of two arrays of counts over the same bins; None where either is empty.

    >>> round(psi(np.array([50, 50]), np.array([25, 75])), 4)  # (.25 - .5) ln .5 + .25 ln 1.5
    0.2747
    """
    if not before.sum() or not now.sum():
        return None
    p, q = (np.maximum(counts, 0.5) / counts.sum() for counts in (before, now))
    return float(((q - p) * np.log(q / p)).sum())


def psi_of_numbers(before: NDArray, now: NDArray) -> float | None:
    """The index of two samples of numbers without nan; bins are tenths of the older one."""
    if not len(before) or not len(now):
        return None
    edges = np.unique(np.quantile(before, np.arange(1, TENTHS) / TENTHS))
    counts = (
        np.bincount(np.searchsorted(edges, values, "right"), minlength=len(edges) + 1)
        for values in (before, now)
    )
    return psi(*counts)
