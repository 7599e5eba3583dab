"""The baselines by name: what a model must beat. A new one is a file and a line here."""

from collections.abc import Mapping

from recsys.baselines.ease import EASE
from recsys.baselines.ials import IALS
from recsys.baselines.interface import Baseline, Interactions, history_matrix
from recsys.baselines.item_knn import ItemKNN
from recsys.baselines.popularity import Popularity, RecentPopularity
from recsys.baselines.session_knn import SessionKNN

BASELINES: Mapping[str, type[Baseline]] = {
    "popularity": Popularity,
    "recent_popularity": RecentPopularity,
    "item_knn": ItemKNN,
    "ials": IALS,
    "ease": EASE,
    "session_knn": SessionKNN,
}
"""`BASELINES[name].fit(interactions)` uses the default options of the class."""

__all__ = ["BASELINES", "Baseline", "Interactions", "history_matrix"]
