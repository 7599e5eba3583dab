"""The first places of a ranked list filled anew: freshness, diversity, quotas, exploration.

Place by place the item with the greatest gain that the quotas permit is taken from the window of
the best. Without any of the four the order stays as it was. All rows go together; the loop is
over places, never over candidates.

Shape suffixes: B lists, N items of the window, T places, V dense item ids, S values of a column,
W values of an item.
"""

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.block import Block
from serving.quotas import Limit, Tally, permitted
from serving.ranked import Ranked
from serving.similarity import Similarity
from serving.topk import NOTHING, Floats, Ints

Bools = NDArray[np.bool_]
DAY = 86_400_000_000
NEXT = 1e-3
"""Relevance lost per rank by entries whose scores do not compare with the first."""
LEAST_VOLUME = 1e-6


class Explorer(Protocol):
    """Chooses by chance."""

    def draws(self, seeds_B: NDArray[np.uint64], places: int) -> NDArray[np.float64]:
        """Random numbers of each row and place."""
        ...

    def pick(
        self, gain_BN: Floats, draws_B: NDArray[np.float64], items_BN: Ints
    ) -> tuple[Ints, NDArray[np.float64]]:
        """Chosen place of the window for each row and its probability."""
        ...

    @property
    def simulations(self) -> int:
        """Lists drawn besides, to tell the chances before drawing."""
        ...

    def simulated(self, seeds_B: NDArray[np.uint64], places: int) -> NDArray[np.float64]:
        """Random numbers of each row, list drawn besides, and place."""
        ...

    def chance_of(self, gain_BN: Floats, which_B: Ints) -> NDArray[np.float64]:
        """Probability that `pick` chooses a place of the window."""
        ...


@dataclass(frozen=True)
class Fresh:
    """What being new adds to the relevance."""

    times: Ints
    """(V,) when each item was new, microseconds UTC, 0 unknown."""
    weight: float
    half_life: float
    """Days."""

    def bonus(self, items_BN: Ints, at_B: Ints) -> Floats:
        """Weight * 2^(-age / half-life), 0 for unknown times."""
        times_BN = self.times[items_BN]
        age_BN = np.maximum(at_B[:, None] - times_BN, 0) / DAY
        bonus_BN = self.weight * np.exp2(-age_BN / self.half_life)
        return np.where(times_BN > 0, bonus_BN, 0).astype(np.float32)


class _Spread:
    """Diversity while lists are being filled."""

    def __init__(self, kind: Literal["mmr", "dpp"], similarity: Similarity, items_BN: Ints) -> None:
        self.kind, self.similarity = kind, similarity
        self.gathered = similarity.gather(items_BN)
        self.nearest_BN = np.zeros(items_BN.shape, np.float32)
        self.volume_BN = np.ones(items_BN.shape, np.float32)
        self.rows: list[Floats] = []

    def value(self) -> Floats:
        """Less similar items and greater volumes are worth more."""
        if self.kind == "mmr":
            return -self.nearest_BN
        return np.log(np.maximum(self.volume_BN, LEAST_VOLUME))

    def take(self, picks_B: Ints) -> None:
        near_BN = self.similarity.to(self.gathered, picks_B)
        if self.kind == "mmr":
            np.maximum(self.nearest_BN, near_BN, out=self.nearest_BN)
            return
        rows = np.arange(len(picks_B))
        root_B = np.sqrt(np.maximum(self.volume_BN[rows, picks_B], LEAST_VOLUME))
        known_BN = sum((row[rows, picks_B][:, None] * row for row in self.rows), np.float32(0))
        step_BN = (near_BN - known_BN) / root_B[:, None]  # Chen et al., algorithm 1
        self.rows.append(step_BN.astype(np.float32))
        self.volume_BN = self.volume_BN - step_BN**2


@dataclass(frozen=True)
class Diversity:
    """How much variety counts against relevance."""

    kind: Literal["mmr", "dpp"]
    weight: float
    similarity: Similarity


@dataclass(frozen=True)
class Arrangement:
    """Fills the first places of ranked lists from the `window` best."""

    window: int
    freshness: Fresh | None = None
    diversity: Diversity | None = None
    quotas: tuple[Limit, ...] = ()
    exploration: Explorer | None = None

    def steps(self) -> list[tuple[str, "Arrangement"]]:
        """The arrangement with its parts added one by one, in order: for explanations."""
        found, so_far = [], Arrangement(self.window)
        for name in ("freshness", "diversity", "quotas", "exploration"):
            if part := getattr(self, name):
                so_far = replace(so_far, **{name: part})
                found.append((name, so_far))
        return found

    def arrange(self, ranked: Ranked, block: Block, k: int) -> Ranked:
        """The lists with their first k places filled anew; a row ends where no item is left that
        its quotas permit.
        """
        items_BN = ranked.items[:, : self.window]
        places = min(k, items_BN.shape[1])
        if not places:
            return ranked.cut(k)
        base_BN = self._relevance(ranked, items_BN, block)
        seeds_B, explorer = block.context.seeds, self.exploration
        draws = None
        if explorer is not None and seeds_B is not None:
            draws = explorer.draws(seeds_B, places)
        picks_BT, chosen_BT, propensity_BT = self._fill(base_BN, items_BN, places, draws)
        order_BK = np.arange(ranked.items.shape[1])[None].repeat(len(items_BN), axis=0)
        order_BK[:, :places] = picks_BT
        whole_B = chosen_BT.all(axis=1) & (places == items_BN.shape[1])
        lists = []
        for array_BM, fill in ((ranked.items, 0), (ranked.scores, NOTHING), (ranked.sources, 0)):
            moved_BK = np.take_along_axis(array_BM, order_BK, axis=1)
            moved_BK[:, :places][~chosen_BT] = fill
            moved_BK[~whole_B, places:] = fill
            lists.append(moved_BK)
        cut = Ranked(*lists, degraded=ranked.degraded).cut(k)
        if propensity_BT is None:
            return cut
        assert seeds_B is not None
        marginal_BT = self._marginals(base_BN, items_BN, picks_BT, propensity_BT, seeds_B)
        told = []
        for chance_BT in (propensity_BT, marginal_BT):
            chance_BK = np.ones(cut.items.shape, np.float32)
            chance_BK[:, :places] = chance_BT
            chance_BK[cut.items == 0] = np.nan
            told.append(chance_BK)
        return replace(cut, propensities=told[0], marginals=told[1])

    def _marginals(
        self,
        base_BN: Floats,
        items_BN: Ints,
        picks_BT: Ints,
        propensity_BT: NDArray[np.float64],
        seeds_B: NDArray[np.uint64],
    ) -> NDArray[np.float64]:
        """(B, T) chance, before drawing, of what was picked: the mean over lists drawn besides of
        the chance given what stands above it there.
        """
        explorer = self.exploration
        if explorer is None or not explorer.simulations:
            marginal_BT = np.full(picks_BT.shape, np.nan)
            marginal_BT[:, 0] = propensity_BT[:, 0]
            return marginal_BT
        count, places = explorer.simulations, picks_BT.shape[1]
        sums_BT = propensity_BT.copy()
        for row, draws in enumerate(explorer.simulated(seeds_B, places)):
            same = np.full(count, row)
            followed = picks_BT[same]
            _, _, chance_RT = self._fill(base_BN[same], items_BN[same], places, draws, followed)
            assert chance_RT is not None
            sums_BT[row] += chance_RT.sum(axis=0)
        marginal_BT = sums_BT / (count + 1)
        marginal_BT[:, 0] = propensity_BT[:, 0]
        return marginal_BT

    def _fill(
        self,
        base_BN: Floats,
        items_BN: Ints,
        places: int,
        draws: NDArray[np.float64] | None,
        followed: Ints | None = None,
    ) -> tuple[Ints, Bools, NDArray[np.float64] | None]:
        """(B, T) place in the window that each place takes, whether it takes any, and with what
        probability (None without draws). followed: (B, T) tell the probability of these instead.
        """
        spread = self.diversity and _Spread(
            self.diversity.kind, self.diversity.similarity, items_BN
        )
        tallies = [Tally(limit, items_BN) for limit in self.quotas]
        free_BN = items_BN != 0
        shape = (len(items_BN), places)
        picks_BT, chosen_BT = np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        explorer = self.exploration
        chance_BT = None if draws is None else np.ones(shape)
        rows = np.arange(len(items_BN))
        for place in range(places):
            gain_BN = base_BN
            if spread and self.diversity:
                weight = self.diversity.weight
                gain_BN = (1 - weight) * base_BN + weight * spread.value()
            gain_BN = np.where(permitted(tallies, free_BN, place), gain_BN, np.float32(NOTHING))
            if draws is not None and explorer is not None and chance_BT is not None:
                picks_B, chance_BT[:, place] = explorer.pick(gain_BN, draws[:, place], items_BN)
                if followed is not None:
                    chance_BT[:, place] = explorer.chance_of(gain_BN, followed[:, place])
            else:
                picks_B = np.argmax(gain_BN, axis=1)
            chosen_B = gain_BN[rows, picks_B] > NOTHING
            free_BN[~chosen_B] = False  # such a list ends here
            free_BN[rows, picks_B] = False
            picks_BT[:, place], chosen_BT[:, place] = picks_B, chosen_B
            for state in [*tallies, *([spread] if spread else [])]:
                state.take(picks_B)
        return picks_BT, chosen_BT, chance_BT

    def _relevance(self, ranked: Ranked, items_BN: Ints, block: Block) -> Floats:
        """Scores of the leading, comparable entries scaled to 0..1; what follows lies below, in
        order. Then the bonus of what is new.
        """
        width = items_BN.shape[1]
        scores_BN = ranked.scores[:, :width]
        alike_BN = np.arange(width) < ranked.num_alike()[:, None]
        alike_BN &= np.isfinite(scores_BN)
        high_B1 = np.where(alike_BN, scores_BN, -np.inf).max(axis=1, keepdims=True)
        low_B1 = np.where(alike_BN, scores_BN, np.inf).min(axis=1, keepdims=True)
        span_B1 = np.where(high_B1 > low_B1, high_B1 - low_B1, 1)
        with np.errstate(invalid="ignore"):
            scaled_BN = np.where(high_B1 > low_B1, (scores_BN - low_B1) / span_B1, 1)
        relevance_BN = np.where(alike_BN, scaled_BN, -NEXT * np.arange(1, width + 1))
        if self.freshness is not None:
            relevance_BN = relevance_BN + self.freshness.bonus(items_BN, block.at)
        return relevance_BN.astype(np.float32)
