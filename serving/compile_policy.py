"""From a policy as it is written to one over dense ids: columns and raw values are looked up once.

Shape suffixes: V dense item ids with padding, W values of an item.
"""

import copy
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from features.errors import InputError
from features.layout import DatasetSchema, ItemColumn, vocabulary_file
from features.store import read_table
from serving.arrange import Arrangement, Diversity, Explorer, Fresh
from serving.catalogue import Catalogue
from serving.errors import RequestError
from serving.explore import EpsilonGreedy, ThompsonDraws
from serving.formula import Formula
from serving.model_source import ModelSource
from serving.policy import FOREVER, Cap, Policy, Window
from serving.policy_spec import (
    MMR,
    Epsilon,
    FrequencyCap,
    PolicySpec,
    Quota,
    RangeRule,
    RawId,
    Rule,
    Thompson,
    ValueRule,
)
from serving.popularity import PopularitySource
from serving.quotas import Limit
from serving.similarity import Similarity, ValueSimilarity, VectorSimilarity
from serving.sources import Source
from serving.topk import Ints

HOUR = 3_600_000_000
KEPT = 32
"""Compiled policies remembered."""
FIRST_VALUE = 2
"""Attribute values: 0 missing, 1 unknown, these and above known."""
NAMED = 5
"""Values shown in a refusal."""


class PolicyCompiler:
    """Makes policies for one bundle; remembers the latest, so that a request may bring its own."""

    def __init__(
        self,
        directory: Path,
        schema: DatasetSchema,
        catalogue: Catalogue,
        item_table: Mapping[str, NDArray],
        sources: Sequence[Source],
        tasks: tuple[str, ...] = (),
    ) -> None:
        """tasks: of the ranker, where a formula may combine them."""
        self._directory, self._catalogue = directory, catalogue
        self._columns = {column.name: column for column in schema.item_columns}
        self._codes = {name: code for code, name in enumerate(schema.event_types, 1)}
        self._item_table, self._sources, self._tasks = item_table, sources, tasks
        self._vocabularies: dict[str, dict[RawId, int]] = {}
        self.retired: Ints = np.zeros(0, np.int64)
        """Dense ids that no policy permits."""
        self._made: OrderedDict[PolicySpec, Policy] = OrderedDict()
        self._lock = threading.Lock()

    def without(self, items: Ints) -> "PolicyCompiler":
        """A compiler whose policies never permit these dense ids either."""
        narrower = copy.copy(self)
        narrower.retired = np.union1d(self.retired, items)
        narrower._made, narrower._lock = OrderedDict(), threading.Lock()
        return narrower

    def compile(self, spec: PolicySpec) -> Policy:
        """Raises RequestError for columns, values, behaviours or items that the bundle lacks."""
        with self._lock:
            if (found := self._made.get(spec)) is not None:
                self._made.move_to_end(spec)
                return found
        made = self._compile(spec)
        with self._lock:
            self._made[spec] = made
            while len(self._made) > KEPT:
                self._made.popitem(last=False)
        return made

    def _compile(self, spec: PolicySpec) -> Policy:
        blocked_V = np.zeros(self._catalogue.num_items + 1, np.bool_)
        blocked_V[0] = True
        for rule in spec.rules:
            blocked_V |= self._blocked_by(rule)
        filters = Policy(
            spec.exclude_seen,
            blocked_V if spec.rules else None,
            self._window(spec),
            tuple(self._cap(cap) for cap in spec.caps),
            self._arrangement(spec) if spec.arranges else None,
            self._formula(spec.formula) if spec.formula else None,
        )
        find = self._catalogue.find_all
        return filters.narrowed(
            self._catalogue.num_items,
            exclude_seen=spec.exclude_seen,
            allow=None if spec.allow is None else find(spec.allow),
            deny=self._denied(spec),
        )

    def _formula(self, text: str) -> Formula:
        formula = Formula.parse(text)
        if unknown := sorted(set(formula.names) - set(self._tasks)):
            known = f"has the tasks {list(self._tasks)}" if self._tasks else "has no tasks"
            raise RequestError(
                f"the policy's formula {text!r} names {unknown}, but the bundle's ranker {known}"
            )
        return formula

    def _denied(self, spec: PolicySpec) -> Ints | None:
        if not spec.deny and not len(self.retired):
            return None
        return np.concatenate([self._catalogue.find_all(spec.deny), self.retired])

    def _blocked_by(self, rule: Rule) -> NDArray[np.bool_]:
        if isinstance(rule, ValueRule):
            has_V = np.any(self._values_of(rule.column, rule.values)[0] > 0, axis=1)
            return np.logical_not(has_V) if rule.action == "only" else has_V
        return ~self._inside(rule)

    def _inside(self, rule: RangeRule) -> NDArray[np.bool_]:
        values_V = self._table(rule.column, "numeric").astype(np.float64)
        low = -np.inf if rule.low is None else rule.low
        high = np.inf if rule.high is None else rule.high
        with np.errstate(invalid="ignore"):
            inside_V = (values_V >= low) & (values_V <= high)
        return inside_V | (np.isnan(values_V) & rule.missing)

    def _window(self, spec: PolicySpec) -> Window | None:
        if spec.availability is None:
            return None
        start_V = np.zeros(self._catalogue.num_items + 1, np.int64) - FOREVER
        end_V = np.full(self._catalogue.num_items + 1, FOREVER)
        if spec.availability.start:
            times_V = self._table(spec.availability.start, "timestamp")
            start_V = np.where(times_V != 0, times_V, start_V)
        if spec.availability.end:
            times_V = self._table(spec.availability.end, "timestamp")
            end_V = np.where(times_V != 0, times_V, end_V)
        return Window(start_V, end_V)

    def _cap(self, cap: FrequencyCap) -> Cap:
        if unknown := [name for name in cap.events if name not in self._codes]:
            raise RequestError(
                f"a cap counts {unknown}, this bundle knows the behaviours {list(self._codes)}"
            )
        codes = np.array([self._codes[name] for name in cap.events]) if cap.events else None
        values_VW, size = None, self._catalogue.num_items + 1
        if cap.column:
            values_VW, size = self._values_of(cap.column, ())
        return Cap(cap.at_most, int(cap.hours * HOUR), size, values_VW, codes)

    def _arrangement(self, spec: PolicySpec) -> Arrangement:
        fresh = spec.freshness and Fresh(
            self._table(spec.freshness.column, "timestamp"),
            spec.freshness.weight,
            spec.freshness.half_life_days,
        )
        diversity = spec.diversity and Diversity(
            "mmr" if isinstance(spec.diversity, MMR) else "dpp",
            spec.diversity.weight,
            self._similarity(spec.diversity.similarity),
        )
        return Arrangement(
            spec.window,
            fresh or None,
            diversity or None,
            tuple(self._limit(quota) for quota in spec.quotas),
            self._explorer(spec.exploration),
        )

    def _limit(self, quota: Quota) -> Limit:
        values_VW, size = self._values_of(quota.column, quota.values)
        return Limit(values_VW, size, quota.at_most, quota.at_least, quota.within)

    def _similarity(self, name: str) -> Similarity:
        if name != "vectors":
            return ValueSimilarity(self._values_of(name, ())[0])
        for source in self._sources:
            if isinstance(source, ModelSource):
                return VectorSimilarity(source.vectors_VD)
        raise RequestError(
            "diversity by `vectors` needs a model among the sources: name a category column in "
            f"`similarity`, this bundle has {self._named('category', 'categories')}"
        )

    def _explorer(self, spec: Epsilon | Thompson | None) -> Explorer | None:
        if spec is None:
            return None
        if isinstance(spec, Epsilon):
            return EpsilonGreedy(spec)
        for source in self._sources:
            if isinstance(source, PopularitySource):
                return ThompsonDraws(spec, source.scores_V)
        raise RequestError("thompson needs the popularity source: it tells what is uncertain")

    def _values_of(self, column: str, raw_values: Sequence[RawId]) -> tuple[Ints, int]:
        """(V, W) value ids, 0 where missing, unknown or not among `raw_values` (empty: all), and
        a bound of them.
        """
        table_V = self._table(column, "category", "categories").astype(np.int64)
        values_VW = table_V.reshape(len(table_V), -1)
        wanted = values_VW >= FIRST_VALUE
        if raw_values:
            wanted &= np.isin(values_VW, self._value_ids(column, raw_values))
        return np.where(wanted, values_VW, 0), max(self._columns[column].size, 2)

    def _value_ids(self, column: str, raw_values: Sequence[RawId]) -> Ints:
        known = self._vocabularies.get(column)
        if known is None:
            try:
                raw = read_table(self._directory / vocabulary_file(column)).column("id").to_pylist()
            except InputError as error:
                raise RequestError(f"{column} has no raw values to name in a policy") from error
            known = {value: number for number, value in enumerate(raw, FIRST_VALUE)}
            self._vocabularies[column] = known
        if unknown := [value for value in raw_values if value not in known]:
            some = ", ".join(map(repr, [*known][:NAMED]))
            raise RequestError(
                f"{column} has no value {unknown[0]!r} ({len(unknown)} such): "
                f"its {len(known)} values are {some} ..."
            )
        return np.array([known[value] for value in raw_values])

    def _table(self, name: str, *kinds: str) -> NDArray:
        column: ItemColumn | None = self._columns.get(name)
        if column is None or column.kind not in kinds:
            found = "no such column" if column is None else f"a {column.kind} column"
            raise RequestError(
                f"the policy names {name!r}, {found}: it needs one of kind "
                f"{' or '.join(kinds)}, this bundle has {self._named(*kinds)}"
            )
        return self._item_table[name]

    def _named(self, *kinds: str) -> list[str]:
        return [column.name for column in self._columns.values() if column.kind in kinds]
