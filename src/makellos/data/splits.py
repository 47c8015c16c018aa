"""Splits of labelled parts: each label in its share, and what belongs together on one side."""

from __future__ import annotations

import csv
import io
import math
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from makellos.data._findings import listed, n_of
from makellos.data.layouts import list_parts
from makellos.data.manifests import COLUMNS
from makellos.data.parts import GOOD, Part, PartSet, Source, group_names
from makellos.errors import ConfigurationError, InputError, StorageError, suggest
from makellos.storage import cell, claim_file, replacing, storage_errors

__all__ = [
    "SplitSummary",
    "aside",
    "check_manifest_target",
    "check_seed",
    "stratified_split",
    "write_manifest",
    "write_split",
]

By = Literal["group", "part"]
_BY: tuple[By, ...] = ("group", "part")
# Of what is divided as a whole (a group, or one part): its number of parts of each label.
Units = dict[str, Counter[str]]

_NEEDED = frozenset({"path", "label", "split"})
_FEW = 10  # parts of a label, below which a share of them is hardly a figure
_ATTEMPTS = 20
_LEARN, _ASIDE = "learn", "aside"


@dataclass(frozen=True, kw_only=True)
class SplitSummary:
    """Hold what a split did; `dataclasses.asdict` is JSON.

    Parameters
    ----------
    manifest : the CSV manifest that was written.
    n_parts, n_groups : parts; groups of parts that belong together, a part alone is one.
    by, seed : what was kept together, and the seed of the draws.
    shares : split to the share of each label that was asked for; they add up to 1.
    counts : label to split to number of parts.
    warnings : sentences about labels with too few parts, and about groups.
    """

    manifest: str
    n_parts: int
    n_groups: int
    by: str
    seed: int
    shares: dict[str, float]
    counts: dict[str, dict[str, int]]
    warnings: list[str]


def stratified_split(
    parts: Sequence[Part], shares: Mapping[str, float], *, seed: int, by: By = "group"
) -> list[str]:
    """Return the name of the split of each part, so that every label keeps the shares.

    Groups are never divided, whatever labels their parts have; ``by="part"`` draws each part alone.
    Shares are positive and relative to their sum. They are kept as near as groups allow: labels
    with few groups and big groups are placed first, each where most is missing of what shall be
    there. A label with at least as many groups as there are splits has a group in each, unless
    groups of several labels stand in the way. The same seed gives the same splits, in whatever
    order the parts come.

    Raises `ConfigurationError` for no share, one that is not positive, or a seed below 0.
    """
    for name, share in shares.items():
        if not (math.isfinite(share) and share > 0):
            raise ConfigurationError(
                f"The share of {name!r} is {share:g}; expected a number above 0. Leave out a "
                "split that is to stay empty."
            )
    if not shares:
        raise ConfigurationError("There is no split to divide parts into. Name one share or more.")
    keys = _keys(parts, by)
    split_of = _divide(_units(parts, keys), shares, _generator(seed))
    return [split_of[key] for key in keys]


def aside(
    parts: Sequence[Part], share: float, *, seed: int, at_least_good: int = 0
) -> tuple[list[Part], list[Part]]:
    """Set a share of each label aside; return the parts to learn from and those set aside.

    Groups are never divided, and both lists keep the order of `parts`. Every label keeps a group to
    learn from, so that one with one group alone is not set aside. Of good parts at least
    `at_least_good` groups (a part alone is one) are set aside, but no more than half of them for
    the sake of it.

    Raises `ConfigurationError` for a share that is not between 0 and 1, or a seed below 0.
    """
    if not 0 < share < 1:
        raise ConfigurationError(
            f"The share to set aside is {share:g}; expected a number between 0 and 1, such as 0.2."
        )
    rng = _generator(seed)
    keys = _keys(parts, "group")
    units = _units(parts, keys)
    side = _divide(units, {_LEARN: 1 - share, _ASIDE: share}, rng)
    drawn = [str(key) for key in rng.permutation(sorted(units))]
    _keep_each_label(units, side, drawn)
    _set_good_aside(units, side, drawn, at_least_good)
    sides = [side[key] for key in keys]
    learn, apart = (
        [part for part, of in zip(parts, sides, strict=True) if of == wanted]
        for wanted in (_LEARN, _ASIDE)
    )
    return learn, apart


def write_split(
    parts: PartSet,
    output: Path,
    *,
    source: Path | None = None,
    val: float = 0.2,
    test: float = 0.2,
    seed: int = 0,
    by: str = "group",
) -> SplitSummary:
    """Divide all parts of a set anew into train, val and test, and write them as a CSV manifest.

    `val` and `test` are shares from 0 up; the rest is learned from. A split that the parts have
    already is forgotten. Paths in the manifest are relative to it, with forward slashes, but where
    a part lies on another drive. An existing file is replaced only where it is such a manifest, and
    not the `source` that the parts were read from.

    Raises `InputError` for parts of one label alone and for names that a manifest cannot hold,
    `ConfigurationError` for values that are not accepted, `StorageError` when `output` cannot be
    written or would replace another file.
    """
    shares = _three_shares(val, test)
    kept = _by(by)
    _check_labels(parts)
    check_manifest_target(output, source)
    splits = stratified_split(parts.parts, shares, seed=seed, by=kept)
    divided = [replace(part, split=split) for part, split in zip(parts, splits, strict=True)]
    write_manifest(output, divided)
    return SplitSummary(
        manifest=str(output),
        n_parts=len(divided),
        n_groups=len(set(group_names(divided))),
        by=by,
        seed=seed,
        shares=shares,
        counts=_counts(divided, shares),
        warnings=_warnings(divided, shares),
    )


def check_seed(seed: int) -> None:
    """Raise `ConfigurationError` for a seed that no generator takes."""
    if seed < 0:
        raise ConfigurationError(f"The seed is {seed}; expected a whole number, at least 0.")


def _generator(seed: int) -> np.random.Generator:
    check_seed(seed)
    return np.random.default_rng(seed)


def _keys(parts: Sequence[Part], by: By) -> list[str]:
    return group_names(parts) if by == "group" else [part.name for part in parts]


def _units(parts: Sequence[Part], keys: Sequence[str]) -> Units:
    units: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for part, key in zip(parts, keys, strict=True):
        units[key][part.label] += 1
    return units


def _divide(units: Units, shares: Mapping[str, float], rng: np.random.Generator) -> dict[str, str]:
    """Return the split of each unit; draw again where units of several labels leave one out."""
    placings = (_placed(units, shares, rng) for _ in range(_ATTEMPTS))
    best = next(placings)
    for placing in placings:
        if not best.n_missing():
            break
        best = min(best, placing, key=_Placing.n_missing)
    return best.split_of


def _placed(units: Units, shares: Mapping[str, float], rng: np.random.Generator) -> _Placing:
    """Place labels of few units first, and of these the big units."""
    drawn = [str(key) for key in rng.permutation(sorted(units))]
    # The least of such draws is that of a split as often as its share says.
    ties = rng.exponential(size=(len(units), len(shares))) / np.array(list(shares.values()))
    placing = _Placing(units, shares, ties)
    for label in placing.labels:
        # Sorting is stable: units of one size stay in the order in which they were drawn.
        holders = (key for key in drawn if label in units[key])
        for key in sorted(holders, key=lambda key: -units[key][label]):
            if key not in placing.split_of:
                placing.place(key)
    placing.mend(drawn)
    return placing


class _Placing:
    """Hold what each split still lacks while units are put into them one after another."""

    def __init__(
        self, units: Units, shares: Mapping[str, float], ties: NDArray[np.float64]
    ) -> None:
        whole = sum(shares.values())
        self.units, self.ties = units, ties
        self.splits = list(shares)
        self.split_of: dict[str, str] = {}
        self.n_units = Counter(label for held in units.values() for label in held)
        self.n_parts = sum(units.values(), Counter[str]())
        ranked = sorted(self.n_units, key=lambda of: (self.n_units[of], self.n_parts[of], of))
        self.labels = {label: rank for rank, label in enumerate(ranked)}
        self._share = {split: share / whole for split, share in shares.items()}
        # What each split shall still get: parts of a label, parts of all labels (None).
        self._lacking: dict[tuple[str | None, str], float] = {
            (label, split): n * share
            for label, n in [*self.n_parts.items(), (None, self.n_parts.total())]
            for split, share in self._share.items()
        }
        # Units with a label: those without a split, and those in each.
        self._free = Counter(self.n_units)
        self._placed: Counter[tuple[str, str]] = Counter()

    def place(self, key: str) -> None:
        """Put a unit where most is missing of what shall be there, of its labels first.

        Compared in relation to what shall be there, so that big units come into small splits too,
        as long as they find room.
        """
        held, tie = self.units[key], self.ties[len(self.split_of)]

        def rank(index: int) -> tuple[bool, float, float, float]:
            split = self.splits[index]
            missing = {label: self._lacking[label, split] for label in held}
            fits = all(missing[label] > n - 1e-9 for label, n in held.items())
            unit = self._share[split] if fits else 1.0
            of_labels = sum(n * missing[label] / self.n_parts[label] for label, n in held.items())
            of_all = self._lacking[None, split]
            return fits, round(of_labels / unit, 9), round(of_all / unit, 9), -float(tie[index])

        self._put(key, max(self._allowed(held), key=rank))

    def _allowed(self, held: Mapping[str, int]) -> list[int]:
        """Return the splits that leave enough units for those that have none of a label yet."""
        allowed = list(range(len(self.splits)))
        for label in sorted(held, key=self.labels.__getitem__):
            without = [i for i, split in enumerate(self.splits) if not self._placed[label, split]]
            among = [i for i in allowed if i in without]
            if among and self._free[label] <= len(without):
                allowed = among
        return allowed

    def _put(self, key: str, index: int, sign: int = 1) -> None:
        split = self.splits[index]
        for label, n in self.units[key].items():
            self._lacking[label, split] -= sign * n
            self._placed[label, split] += sign
            self._free[label] -= sign
        self._lacking[None, split] -= sign * self.units[key].total()
        self.split_of[key] = split

    def mend(self, drawn: Sequence[str]) -> None:
        """Move units, the small ones first, into splits that lack a label which has enough."""
        for label, index in self._missing():
            held = (key for key in drawn if label in self.units[key])
            movable = [key for key in held if self._is_spare(key)]
            if movable and not self._placed[label, self.splits[index]]:
                key = min(movable, key=lambda key: self.units[key].total())
                self._put(key, self.splits.index(self.split_of[key]), sign=-1)
                self._put(key, index)

    def n_missing(self) -> int:
        """Return how often a split has nothing of a label that has enough units for all."""
        return len(self._missing())

    def _missing(self) -> list[tuple[str, int]]:
        return [
            (label, index)
            for label in self.labels
            if self.n_units[label] >= len(self.splits)
            for index, split in enumerate(self.splits)
            if not self._placed[label, split]
        ]

    def _is_spare(self, key: str) -> bool:
        return all(self._placed[label, self.split_of[key]] > 1 for label in self.units[key])


def _keep_each_label(units: Units, side: dict[str, str], drawn: Sequence[str]) -> None:
    """Take units back to learn from, the small ones first, until each label has one there."""
    learned = {label for key, held in units.items() if side[key] == _LEARN for label in held}
    for label in sorted({label for held in units.values() for label in held}):
        if label not in learned:
            holders = (key for key in drawn if label in units[key])
            key = min(holders, key=lambda key: units[key].total())
            side[key] = _LEARN
            learned |= set(units[key])


def _set_good_aside(
    units: Units, side: dict[str, str], drawn: Sequence[str], at_least: int
) -> None:
    good = [key for key in drawn if GOOD in units[key]]
    short = min(at_least, len(good) // 2) - sum(side[key] == _ASIDE for key in good)
    left = Counter(label for key, held in units.items() if side[key] == _LEARN for label in held)
    # Groups that are good throughout cost no defective part.
    for key in sorted(good, key=lambda key: len(units[key])):
        if short <= 0:
            return
        if side[key] == _LEARN and all(left[label] > 1 for label in units[key]):
            side[key] = _ASIDE
            left.subtract(dict.fromkeys(units[key], 1))
            short -= 1


def _three_shares(val: float, test: float) -> dict[str, float]:
    for name, share in (("val", val), ("test", test)):
        if not 0 <= share < 1:
            raise ConfigurationError(
                f"The share of {name} is {share:g}; expected 0 or more, and below 1."
            )
    if not 0 < val + test < 1:
        raise ConfigurationError(
            f"The shares of val ({val:g}) and test ({test:g}) add up to {val + test:g}; expected "
            "a sum between 0 and 1. The rest is learned from."
        )
    shares = {"train": 1 - val - test, "val": val, "test": test}
    return {name: share for name, share in shares.items() if share}


def _by(name: str) -> By:
    for known in _BY:
        if name == known:
            return known
    raise ConfigurationError(f"Parts cannot be kept together by {name!r}. {suggest(name, _BY)}")


def _check_labels(parts: PartSet) -> None:
    labels = {part.label for part in parts}
    if len(labels) > 1:
        return
    raise InputError(
        f"All {n_of(parts.parts, 'part')} of {parts.root} ({parts.layout}) have the label "
        f"{labels.pop()!r}; a split by label needs two or more. Put the others beside them, in "
        "folders such as ok and defective, or give labels in a CSV manifest."
    )


def _counts(parts: Iterable[Part], shares: Mapping[str, float]) -> dict[str, dict[str, int]]:
    found = Counter((part.label, part.split) for part in parts)
    labels = sorted({label for label, _ in found})
    return {label: {split: found[label, split] for split in shares} for label in labels}


def _warnings(parts: Sequence[Part], shares: Mapping[str, float]) -> list[str]:
    said = []
    counts = _counts(parts, shares)
    for label, by_split in counts.items():
        without = [split for split, n in by_split.items() if not n]
        n = sum(by_split.values())
        if without:
            said.append(
                f"Label {label} ({n} {'part' if n == 1 else 'parts'}) has none in "
                f"{' and none in '.join(without)}: too few parts or groups for {len(shares)} "
                "splits. Add pictures of it, or give it the label of a similar kind."
            )
    few = {label: n for label, of in counts.items() if (n := sum(of.values())) < _FEW}
    if few:
        named = listed([f"{label} ({n})" for label, n in few.items()])
        said.append(
            f"{n_of(few, 'label')} with fewer than {_FEW} parts: {named}. Figures for them mean "
            "little."
        )
    splits: defaultdict[str, set[str | None]] = defaultdict(set)
    for part in parts:
        if part.group is not None:
            splits[part.group].add(part.split)
    divided = sorted(group for group, of in splits.items() if len(of) > 1)
    if divided:
        said.append(
            f"{n_of(divided, 'group')} in more than one split ({listed(divided)}), so results "
            "look better than they are on new groups. Split with --by group."
        )
    return said


def check_manifest_target(path: Path, source: Path | None) -> None:
    """Raise before any work where no manifest can be written or another file would be lost."""
    if path.suffix.lower() != ".csv":
        raise ConfigurationError(f"The manifest's name is {str(path)!r}; it must end in .csv.")
    with storage_errors(f"{path} cannot be written"):
        if source is not None and path.exists() and path.samefile(source):
            raise StorageError(
                f"{path} is the manifest that the parts are read from; it is left alone. Choose "
                "another name for the new one."
            )
    claim_file(path, _is_split, f"is not a manifest with only the columns {', '.join(COLUMNS)}")


def _is_split(path: Path) -> bool:
    """Tell whether a file is a manifest that holds nothing that would be lost."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        line = stream.readline(1024)
    columns = {name.strip().casefold() for name in line.split(",")}
    return not line or (columns >= _NEEDED and columns <= set(COLUMNS))


def write_manifest(path: Path, parts: Sequence[Part]) -> None:
    """Write a manifest beside its place, read it back, and put it there once it says the same."""
    try:
        data = _text(parts, path.parent.resolve()).encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{path} was not written: a name in it cannot be written as UTF-8 "
            f"({error.object[error.start : error.end]!a}). Rename that file or label."
        ) from None
    with replacing(path, suffix=".csv") as stream:
        stream.write(data)
        stream.flush()
        _check_same(Path(stream.name), path, parts)


def _text(parts: Iterable[Part], root: Path) -> str:
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    parts = list(parts)
    columns = COLUMNS if any(part.reference for part in parts) else COLUMNS[:-1]
    rows.writerow(columns)
    folders: dict[Path, str] = {}
    for part in parts:
        name, mask, reference = (
            _relative(each, root, folders) for each in (part.path, part.mask, part.reference)
        )
        row = [name + part.piece, part.label, part.split or "", mask, part.group or "", reference]
        rows.writerow(row[: len(columns)])
    return table.getvalue()


def _relative(file: Path | Source | None, root: Path, folders: dict[Path, str]) -> str:
    """Return the path of a file from the manifest's folder; absolute on another drive.

    Folders alone are resolved: a picture that is a link keeps its own name.
    """
    if file is None:
        return ""
    path = file if isinstance(file, Path) else file.path
    folder = path.parent
    if folder not in folders:
        whole = folder.resolve()
        try:
            folders[folder] = Path(os.path.relpath(whole, root)).as_posix()
        except ValueError:
            folders[folder] = whole.as_posix()
    found = (Path(folders[folder]) / path.name).as_posix()
    return found if cell(found) == found else f"./{found}"  # which is no formula


def _check_same(partial: Path, path: Path, parts: Sequence[Part]) -> None:
    try:
        read = list_parts(partial).parts
    except InputError as error:
        said = str(error).replace(str(partial), str(path))
        raise InputError(f"The split cannot be written as a manifest: {said}") from None
    for part, again in zip(parts, read, strict=True):
        same = replace(again, source=part.source, mask=part.mask, name=part.name)
        same = replace(same, reference=part.reference)
        if same != part or again.piece != part.piece or not again.path.samefile(part.path):
            raise InputError(
                f"{part.name} (label {part.label!r}) cannot be written to a CSV manifest: read "
                f"back, it is {again.name} (label {again.label!r}). Rename it without spaces at "
                "either end and without control characters."
            )
