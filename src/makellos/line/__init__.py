"""Where parts of a line come from, and how each is inspected and stored exactly once."""

from makellos.line.following import Judge, follow
from makellos.line.judging import StationJudge
from makellos.line.sources import Arrival, Source
from makellos.line.watched_folder import WatchedFolder

__all__ = ["Arrival", "Judge", "Source", "StationJudge", "WatchedFolder", "follow"]
