"""Figures of the station for Prometheus, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

__all__ = ["Metrics"]

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """Count parts and measure how long they take; figures that can be looked up are, when asked."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.parts = Counter(
            "makellos_parts", "Parts inspected.", ("recipe", "verdict"), registry=self.registry
        )
        self.seconds = Histogram(
            "makellos_part_seconds",
            "Time from the acceptance of a part until it is stored.",
            ("recipe",),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.refused = Counter(
            "makellos_refused", "Requests refused, by code.", ("code",), registry=self.registry
        )
        self.drift_wealth = self._gauge(
            "drift_wealth", "Evidence of drift; the alarm comes at 10,000.", "recipe"
        )
        self.drift_alarm = self._gauge(
            "drift_alarm", "1 from a drift alarm until it is reset.", "recipe"
        )
        self.budget = self._gauge(
            "false_alarms_allowed", "False alarms that this shift's parts allow.", "recipe"
        )
        self.spent = self._gauge(
            "false_alarms_found", "Rejected parts of this shift that a person found good.", "recipe"
        )
        self.queue = self._gauge("queue_length", "Parts accepted and not answered yet.")
        self.models = self._gauge("recipes_loaded", "Recipes that can be used.")
        self.listeners = self._gauge("event_listeners", "Pages and programs that listen to events.")
        ProcessCollector(registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"makellos_{name}", text, labels, registry=self.registry)

    def text(self, look: Callable[[], None] = lambda: None) -> bytes:
        """Return all figures as Prometheus reads them; `look` sets those that are looked up."""
        look()
        return generate_latest(self.registry)
