"""Which of several systems differ, over the same users: tests of pairs, corrected for their number.

Shape suffix: U users.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from offline_eval.hypotheses import holm, minimal_detectable_effect, paired_p
from offline_eval.metrics import Floats
from offline_eval.report import Comparison
from offline_eval.significance import paired_difference

LEVEL = 0.05
"""Chance of any false finding among all pairs that are tested together."""


def compare_pairs(
    values: Mapping[str, Floats],
    pairs: Sequence[tuple[str, str]],
    metric: str,
    *,
    resamples: int = 1_000,
    seed: int = 0,
) -> list[Comparison]:
    """Each first system against its second, with p-values corrected (Holm) for all given pairs.

    values: by system, (U,), the same users in the same order; nan where undefined.
    """
    differences = [values[first] - values[second] for first, second in pairs]
    p_values = np.array([paired_p(difference_U, seed=seed) for difference_U in differences])
    return [
        Comparison(
            first=first,
            second=second,
            metric=metric,
            difference=paired_difference(
                values[first], values[second], resamples=resamples, seed=seed
            ),
            p=float(p),
            p_holm=float(adjusted),
            detectable=minimal_detectable_effect(difference_U),
        )
        for (first, second), difference_U, p, adjusted in zip(
            pairs, differences, p_values, holm(p_values), strict=True
        )
    ]


def significance_letters(values: Mapping[str, Floats], *, seed: int = 0) -> dict[str, str]:
    """Compact letter display: systems that share a letter cannot be told apart at 5 %.

    All pairs are tested and corrected (Holm). Letters begin with `a` for the best mean. Insert and
    absorb, after Piepho, J. Comput. Graph. Stat. 2004. A system with no value has no letter.
    """
    means = {name: float(np.nanmean(v)) for name, v in values.items() if not np.isnan(v).all()}
    ranked = sorted(means, key=lambda name: -means[name])
    pairs = list(combinations(ranked, 2))
    p_values = np.array([paired_p(values[a] - values[b], seed=seed) for a, b in pairs])
    differing = [
        pair
        for pair, p in zip(pairs, holm(p_values), strict=True)
        if not math.isnan(p) and p <= LEVEL
    ]
    groups = [frozenset(ranked)] if ranked else []
    for first, second in differing:
        split: list[frozenset[str]] = []
        for group in groups:
            both = first in group and second in group
            split += [group - {first}, group - {second}] if both else [group]
        groups = [g for g in dict.fromkeys(split) if not any(g < other for other in split)]
    groups.sort(key=lambda group: sorted(ranked.index(name) for name in group))
    letters = dict.fromkeys(values, "")
    for number, group in enumerate(groups):
        for name in group:
            letters[name] += letter(number)
    return letters


def letter(number: int) -> str:
    """a..z, then aa, ab, ...

    >>> letter(0), letter(25), letter(26)
    ('a', 'z', 'aa')
    """
    head, tail = divmod(number, 26)
    return (letter(head - 1) if head else "") + chr(ord("a") + tail)
