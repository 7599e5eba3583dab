"""Numbers for Prometheus. One registry a server, so that two in one process do not mix."""

import time
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.breaker import GuardedHistory
from serving.service import Service

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5)


class Meters:
    """Counters that the server increments, and gauges read when somebody asks."""

    def __init__(self, service: Service) -> None:
        registry = self._registry = CollectorRegistry()
        self._service = service
        self.seconds = Histogram(
            "recsys_request_seconds",
            "From arrival to answer",
            ["route"],
            buckets=SECONDS,
            registry=registry,
        )
        self.stages = Histogram(
            "recsys_stage_seconds",
            "Waiting for a thread, reading the history, computing the answer",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.responses = Counter(
            "recsys_responses", "Answers sent", ["route", "status"], registry=registry
        )
        self.degraded = Counter(
            "recsys_degraded", "What was missing from answers", ["reason"], registry=registry
        )
        self.shed = Counter("recsys_shed", "Refused for lack of room", registry=registry)
        self.unknown = Counter(
            "recsys_unknown_items", "Events of histories the bundle lacks", registry=registry
        )
        self.in_flight = Gauge("recsys_in_flight", "Requests inside now", registry=registry)
        self.swaps = Counter("recsys_swaps", "Bundle changes", ["outcome"], registry=registry)
        self._bundle = Gauge(
            "recsys_bundle_info", "1 for the bundle that serves", ["version"], registry=registry
        )
        self._age = Gauge(
            "recsys_bundle_cutoff_age_seconds", "Since its training data ended", registry=registry
        )
        self._recall = Gauge(
            "recsys_index_recall", "Measured at export", ["source", "k"], registry=registry
        )
        self._state = Gauge("recsys_state_up", "1 while the store answers", registry=registry)
        self._state_errors = Gauge("recsys_state_errors", "Failed calls", registry=registry)
        self._rows = Gauge("recsys_log_rows", "Of logs", ["log", "outcome"], registry=registry)

    @lru_cache(maxsize=256)  # noqa: B019 - as long as the server: labels cost more than counting
    def of(self, route: str, status: int) -> tuple[Counter, Histogram]:
        """What counts the answers of a route, and their seconds."""
        return self.responses.labels(route, status), self.seconds.labels(route)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        service, recommender = self._service, self._service.recommender
        self._bundle.clear()
        self._bundle.labels(recommender.bundle_version).set(1)
        self._age.set(time.time() - recommender.schema.cutoff / 1e6)
        self._recall.clear()
        for entry in recommender.manifest.index_recall:
            self._recall.labels(entry.source, entry.k).set(entry.recall)
        if isinstance(service.store, GuardedHistory):
            self._state.set(not service.store.is_open)
            self._state_errors.set(service.store.errors)
        for log in (service.exposures, service.feedback):
            if log is not None:
                self._rows.labels(log.kind, "written").set(log.written)
                self._rows.labels(log.kind, "dropped").set(log.dropped)
        return generate_latest(self._registry)
