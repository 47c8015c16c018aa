"""What a candidate would change: both models over the same stored pictures, side by side."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from makellos.evaluation.ranking import auroc
from makellos.store import Change, RegressionSet, Store, StoredInspection

__all__ = ["Asked", "Judged", "compare", "judged"]

REJECT = "reject"


class Judged(NamedTuple):
    """Hold what a model says of a part."""

    verdict: str
    score: float | None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Hold what a candidate is compared on: locked sets, and parts of the last time."""

    sets: tuple[RegressionSet, ...]
    replayed: tuple[StoredInspection, ...]

    def pictures(self, store: Store) -> dict[str, Path]:
        """Return the pictures that both models have to judge, by hash."""
        hashes = {part.picture for part in self.replayed}
        for each in self.sets:
            hashes |= {part.picture for part in store.regression_sets.parts(each.name)}
        found = {name: store.picture(name) for name in hashes if name is not None}
        return {name: path for name, path in found.items() if path is not None}


def judged(
    run: Callable[[Sequence[str]], None],
    model: Path,
    rules: Mapping[str, Any] | None,
    pictures: Mapping[str, Path],
    folder: Path,
) -> dict[str, Judged]:
    """Return what a model says of pictures, by hash; `run` runs a verb of makellos as a process."""
    manifest, rows = folder / "pictures.csv", folder / "rows.jsonl"
    with manifest.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerows([["path"], *([str(path)] for path in pictures.values())])
    options = []
    if rules is not None:
        file = folder / "rules.json"
        file.write_text(json.dumps(dict(rules)), encoding="utf-8")
        options = ["--rules", str(file)]
    run(["inspect", str(model), str(manifest), "--jsonl", str(rows), *options])
    hashes = {str(path): name for name, path in pictures.items()}
    found = {}
    for line in rows.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        found[hashes[row["input"]]] = Judged(row["verdict"], row["score"])
    return found


def compare(
    store: Store,
    asked: Asked,
    before: Mapping[str, Judged],
    after: Mapping[str, Judged],
    learned: Mapping[int, str],
) -> tuple[list[Change], dict[str, Any]]:
    """Return the parts that are judged otherwise, and the figures of both models.

    `learned` are the numbers of parts that the candidate learned from, with their pictures. They
    would flatter it: in sets they do not count, and are told as `n_learned`; of those that are
    replayed it says how many there are.
    """
    known = set(learned.values())
    changes, sets = dict[tuple[str, int], Change](), []
    for each in asked.sets:
        locked = store.regression_sets.parts(each.name)
        parts = [part for part in locked if part.picture not in known]
        n_good = sum(part.decision == "good" for part in parts)
        sets.append(
            {
                "set": each.name,
                "hash": each.hash,
                "n_good": n_good,
                "n_defective": len(parts) - n_good,
                "n_learned": len(locked) - len(parts),
                "before": _errors([(part.decision, before[part.picture]) for part in parts]),
                "after": _errors([(part.decision, after[part.picture]) for part in parts]),
            }
        )
        for part in locked:
            _note(changes, part.inspection_id, "regression", part.picture, before, after)
    replayed = [part for part in asked.replayed if part.picture in after]
    for again in replayed:
        _note(changes, again.id, "replay", str(again.picture), before, after)
    figures = {
        "n": len(replayed),
        "n_learned": sum(part.picture in known for part in replayed),
        "before": dict(Counter(before[str(part.picture)].verdict for part in replayed)),
        "after": dict(Counter(after[str(part.picture)].verdict for part in replayed)),
    }
    counted = Counter(change.of for change in changes.values())
    return list(changes.values()), {
        "regression": sets,
        "replay": figures,
        "n_changes": {"regression": counted["regression"], "replay": counted["replay"]},
    }


def _errors(judgements: Sequence[tuple[str, Judged]]) -> dict[str, Any]:
    """Count the errors of a model, and say how well its scores rank; None where they cannot."""
    scored = [(found.score, said) for said, found in judgements if found.score is not None]
    return {
        "auroc": auroc([score for score, _ in scored], [said == "defective" for _, said in scored])
        if scored
        else None,
        "false_alarms": sum(t == "good" and found.verdict == REJECT for t, found in judgements),
        "missed": sum(t == "defective" and found.verdict != REJECT for t, found in judgements),
        "unreadable": sum(found.verdict == "unreadable" for _, found in judgements),
    }


def _note(
    changes: dict[tuple[str, int], Change],
    number: int,
    of: str,
    picture: str,
    before: Mapping[str, Judged],
    after: Mapping[str, Judged],
) -> None:
    old, new = before[picture], after[picture]
    if old.verdict != new.verdict:
        changes[of, number] = Change(
            inspection_id=number,
            of=of,
            before=old.verdict,
            after=new.verdict,
            score_before=old.score,
            score_after=new.score,
        )
