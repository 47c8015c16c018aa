"""The verb `history` with all that belongs to it."""

from __future__ import annotations

from makellos.cli.judgements import judgements
from makellos.cli.keeping import history_app as app
from makellos.cli.retaining import retention

__all__ = ["app"]

app.command("judgements", short_help="Write all decisions, for 'makellos accept'.")(judgements)
app.command("retention", short_help="Say how long things are kept.")(retention)
