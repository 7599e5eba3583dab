"""May a new bundle replace the one that serves? Reasons against it, from reports of both.

Two questions, each asked user by user with an interval: does it beat recent popularity, and is it
no worse than what serves? The second needs reports over the same test (`compare` refuses others).
"""

from pathlib import Path

from offline_eval.compare import GATE, compare
from offline_eval.report import Comparison

CANDIDATE, CURRENT = "candidate", "current"


def reasons_against(
    report: Path,
    current: Path | None = None,
    *,
    metric: str | None = None,
    margin: float | None = None,
    popularity: bool = True,
) -> tuple[list[str], list[str]]:
    """Sentences that speak against the candidate (none: it passes), and those that do not.

    metric: by default NDCG at the report's main cut-off. margin: loss on it that is tolerated; the
    whole interval must lie above it. None refuses only what is worse beyond chance. popularity:
    whether recent popularity must be beaten. Raises InputError as `compare` does.
    """
    runs = [] if current is None else [(CURRENT, current)]
    found = compare([*runs, (CANDIDATE, report)], metric=metric)
    against, in_favour = [], []
    for one in found.comparisons:
        if one.first != CANDIDATE or one.metric != found.metric:
            continue
        if one.second == CURRENT:
            passes = _holds(one, margin)
        elif one.second == GATE and popularity:
            passes = one.difference.verdict == "better"
        else:
            continue
        (in_favour if passes else against).append(one.sentence)
    return against, in_favour


def _holds(one: Comparison, margin: float | None) -> bool:
    """Whether the candidate keeps up with what serves."""
    if margin is None:
        return one.difference.verdict != "worse"
    return one.difference.low > -margin
