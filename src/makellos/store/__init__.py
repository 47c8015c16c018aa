"""What a station knows: inspections and their pictures, people and their words, the audit log."""

from __future__ import annotations

from makellos.store.audit_log import AuditCheck, AuditEntry, AuditLog
from makellos.store.backup import BackUp
from makellos.store.candidates import STATES, Candidate, Candidates, Change
from makellos.store.people import (
    LONGEST_PASSWORD,
    ROLES,
    SHORTEST_PASSWORD,
    NewSession,
    People,
    Person,
    Session,
    Token,
    allows,
)
from makellos.store.recipes import Recipes, RecipeVersion, StoredModel
from makellos.store.records import (
    DECISIONS,
    LONGEST_INPUT,
    LONGEST_TEXT,
    Box,
    Filter,
    NewInspection,
    NotFoundError,
    Removed,
    Retention,
    Review,
    StoredInspection,
    Tally,
)
from makellos.store.regression_sets import RegressionPart, RegressionSet, RegressionSets
from makellos.store.settings import Settings
from makellos.store.store import Store
from makellos.store.times import Clock, iso, microseconds, utc_now

__all__ = [
    "DECISIONS",
    "LONGEST_INPUT",
    "LONGEST_PASSWORD",
    "LONGEST_TEXT",
    "ROLES",
    "SHORTEST_PASSWORD",
    "STATES",
    "AuditCheck",
    "AuditEntry",
    "AuditLog",
    "BackUp",
    "Box",
    "Candidate",
    "Candidates",
    "Change",
    "Clock",
    "Filter",
    "NewInspection",
    "NewSession",
    "NotFoundError",
    "People",
    "Person",
    "RecipeVersion",
    "Recipes",
    "RegressionPart",
    "RegressionSet",
    "RegressionSets",
    "Removed",
    "Retention",
    "Review",
    "Session",
    "Settings",
    "Store",
    "StoredInspection",
    "StoredModel",
    "Tally",
    "Token",
    "allows",
    "iso",
    "microseconds",
    "utc_now",
]
