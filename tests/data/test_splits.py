"""How labelled parts are divided: shares, groups, seeds, and the manifest that names the splits."""

from __future__ import annotations

import csv
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from makellos import find_parts
from makellos.data.parts import GOOD, Part, group_names
from makellos.data.splits import SplitSummary, aside, stratified_split, write_split
from makellos.errors import ConfigurationError, InputError, StorageError

THREE = {"train": 0.6, "val": 0.2, "test": 0.2}


def part(number: int, label: str = GOOD, group: str | None = None) -> Part:
    name = f"{label}/{number:05}.png"
    return Part(source=Path(name), name=name, label=label, group=group)


def some(**counts: int) -> list[Part]:
    """Return so many parts of each label, no two of one group."""
    return [part(number, label) for label, n in counts.items() for number in range(n)]


def per_split(parts: Sequence[Part], splits: Sequence[str]) -> dict[str, Counter[str]]:
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one, split in zip(parts, splits, strict=True):
        found[one.label][split] += 1
    return dict(found)


# Any parts: labels, and groups that may hold several labels.
PARTS = st.lists(
    st.tuples(st.sampled_from(["good", "dent", "crack"]), st.integers(0, 12)), max_size=60
).map(lambda drawn: [part(i, label, f"g{g}" if g else None) for i, (label, g) in enumerate(drawn)])


@given(parts=PARTS, seed=st.integers(0, 5))
def test_groups_are_never_divided(parts: list[Part], seed: int) -> None:
    splits = stratified_split(parts, THREE, seed=seed)
    assert len(splits) == len(parts)
    assert set(splits) <= set(THREE)
    of_group = dict(zip(group_names(parts), splits, strict=True))
    assert [of_group[name] for name in group_names(parts)] == splits


@given(parts=PARTS, seed=st.integers(0, 5), data=st.data())
def test_order_of_parts_makes_no_difference(
    parts: list[Part], seed: int, data: st.DataObject
) -> None:
    mixed = data.draw(st.permutations(parts))
    one, other = (
        dict(zip((p.name for p in of), stratified_split(of, THREE, seed=seed), strict=True))
        for of in (parts, mixed)
    )
    assert one == other


@given(
    sizes=st.dictionaries(
        st.sampled_from(["good", "dent", "crack", "scratch"]),
        st.lists(st.integers(1, 9), min_size=1, max_size=12),
        min_size=1,
    ),
    seed=st.integers(0, 5),
)
def test_every_label_with_enough_groups_is_in_every_split(
    sizes: dict[str, list[int]], seed: int
) -> None:
    parts = [
        part(100 * g + i, label, f"{label}{g}")
        for label, of in sizes.items()
        for g, size in enumerate(of)
        for i in range(size)
    ]
    found = per_split(parts, stratified_split(parts, THREE, seed=seed))
    for label, of in sizes.items():
        assert len(found[label]) == min(len(of), 3)


@pytest.mark.parametrize("seed", range(5))
def test_shares_of_every_label_are_kept_to_a_part(seed: int) -> None:
    parts = some(good=100, dent=25, crack=11, scratch=3)
    found = per_split(parts, stratified_split(parts, THREE, seed=seed))
    for label, n in (("good", 100), ("dent", 25), ("crack", 11)):
        for split, share in THREE.items():
            assert abs(found[label][split] - share * n) < 1
    assert found["scratch"] == {"train": 1, "val": 1, "test": 1}


def test_shares_are_kept_as_near_as_groups_allow() -> None:
    """Groups of all sizes, half of them of two labels, divide to a small group's size."""
    parts = [
        part(100 * g + i, "dent" if g % 2 and i < 3 else GOOD, f"g{g}")
        for g in range(60)
        for i in range(1 + g % 9)
    ]
    for seed in range(5):
        found = per_split(parts, stratified_split(parts, THREE, seed=seed))
        for label, of in found.items():
            n = of.total()
            for split, share in THREE.items():
                assert abs(of[split] - share * n) <= 3, (seed, label)


def test_big_groups_come_into_small_splits_too() -> None:
    """Were the big groups all learned from, what is tested would be of another kind."""
    parts = [part(100 * g + i, GOOD, f"g{g}") for g in range(50) for i in range(1 + g // 5)]
    sizes = Counter(group_names(parts))
    for seed in range(5):
        split_of = dict(
            zip(group_names(parts), stratified_split(parts, THREE, seed=seed), strict=True)
        )
        of_ten = {split for group, split in split_of.items() if sizes[group] >= 9}
        assert of_ten == set(THREE)


def test_seeds_draw_differently_and_always_the_same() -> None:
    parts = some(good=30, dent=30)
    drawn = [tuple(stratified_split(parts, THREE, seed=seed)) for seed in range(6)]
    assert len(set(drawn)) == 6
    assert drawn == [tuple(stratified_split(parts, THREE, seed=seed)) for seed in range(6)]


def test_by_part_divides_groups() -> None:
    parts = [part(i, GOOD if i % 2 else "dent", f"g{i // 10}") for i in range(60)]
    splits = stratified_split(parts, THREE, seed=0, by="part")
    of_group = defaultdict(set)
    for group, split in zip(group_names(parts), splits, strict=True):
        of_group[group].add(split)
    assert any(len(of) > 1 for of in of_group.values())
    assert Counter(splits) == {"train": 36, "val": 12, "test": 12}


def test_shares_are_relative_to_their_sum() -> None:
    parts = some(good=40, dent=20)
    assert stratified_split(parts, {"a": 3, "b": 1}, seed=0) == stratified_split(
        parts, {"a": 0.75, "b": 0.25}, seed=0
    )
    assert set(stratified_split(parts, {"a": 2}, seed=0)) == {"a"}
    assert stratified_split([], THREE, seed=0) == []


@pytest.mark.parametrize("by", ["group", "part"])
def test_twenty_thousand_parts_are_divided_at_once(by: Any) -> None:
    labels = [GOOD, "dent", "crack", "scratch", "spot"]
    parts = [part(i, labels[(i * i) % 5], f"g{i // 4}") for i in range(20_000)]
    started = time.process_time()
    splits = stratified_split(parts, THREE, seed=0, by=by)
    assert time.process_time() - started < 10
    assert Counter(splits)["train"] == pytest.approx(12_000, abs=10)


@pytest.mark.parametrize("shares", [{}, {"a": 0.0}, {"a": -1}, {"a": float("nan")}])
def test_wrong_shares_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        stratified_split(some(good=3), shares, seed=0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="seed is -1; expected"):
        stratified_split(some(good=3), THREE, seed=-1)


# Setting aside


@given(parts=PARTS, share=st.sampled_from([0.1, 0.3, 0.5, 0.9]), seed=st.integers(0, 3))
def test_no_label_loses_its_last_group_to_what_is_set_aside(
    parts: list[Part], share: float, seed: int
) -> None:
    learn, apart = aside(parts, share, seed=seed, at_least_good=4)
    assert {p.label for p in learn} == {p.label for p in parts}
    assert not set(group_names(learn)) & set(group_names(apart))
    chosen = {p.name for p in apart}
    assert learn == [p for p in parts if p.name not in chosen]
    assert apart == [p for p in parts if p.name in chosen]


def test_a_share_of_each_label_is_set_aside() -> None:
    parts = some(good=50, dent=10, crack=2, spot=1)
    learn, apart = aside(parts, 0.2, seed=0)
    assert Counter(p.label for p in apart) == {"good": 10, "dent": 2, "crack": 1}
    assert Counter(p.label for p in learn) == {"good": 40, "dent": 8, "crack": 1, "spot": 1}


@pytest.mark.parametrize(("wanted", "found"), [(0, 4), (4, 4), (7, 7), (10, 10), (99, 10)])
def test_at_least_so_many_good_groups_but_no_more_than_half(wanted: int, found: int) -> None:
    parts = [part(i, GOOD, f"g{i // 3}") for i in range(60)] + some(dent=10)
    learn, apart = aside(parts, 0.2, seed=0, at_least_good=wanted)
    assert len({p.group for p in apart if p.is_good}) == found
    assert sum(not p.is_good for p in apart) == 2
    assert len({p.group for p in learn if p.is_good}) == 20 - found


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_that_leaves_nothing_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match="between 0 and 1"):
        aside(some(good=3), share, seed=0)


# The manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the MVTec layout; no picture is opened to split parts."""
    for name in (
        *(f"train/good/{i}.png" for i in range(20)),
        *(f"test/{kind}/{i}.png" for kind in ("good", "dent", "a, b") for i in range(10)),
        *(f"ground_truth/dent/{i}_mask.png" for i in range(10)),
    ):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "data"


def split(data: Path, output: Path, **options: Any) -> SplitSummary:
    return write_split(find_parts(data), output, source=data, **options)


def known(data: Path) -> list[tuple[Path, str, Path | None, str | None]]:
    return [
        (p.path.resolve(), p.label, p.mask and p.mask.resolve(), p.group) for p in find_parts(data)
    ]


@pytest.mark.parametrize("place", ["data/parts.csv", "parts.csv", "deep/er/parts.csv"])
def test_the_manifest_names_the_same_parts(folder: Path, place: str) -> None:
    output = folder.parent / place
    summary = split(folder, output, seed=3)
    assert known(output) == known(folder)
    found = find_parts(output)
    assert Counter((p.label, p.split) for p in found) == {
        ("good", "train"): 18,
        ("good", "val"): 6,
        ("good", "test"): 6,
        ("dent", "train"): 6,
        ("dent", "val"): 2,
        ("dent", "test"): 2,
        ("a, b", "train"): 6,
        ("a, b", "val"): 2,
        ("a, b", "test"): 2,
    }
    assert summary.counts["dent"] == {"train": 6, "val": 2, "test": 2}
    assert (summary.n_parts, summary.n_groups, summary.warnings) == (50, 50, [])
    rows = csv.DictReader(output.read_text(encoding="utf-8").splitlines())
    cells = [row["path"] for row in rows]
    assert not any("\\" in cell or Path(cell).is_absolute() for cell in cells)


@given(
    labels=st.lists(
        st.text(
            st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=5
        ),
        min_size=2,
        max_size=8,
    ),
    groups=st.lists(
        st.text(st.sampled_from("ab\",;\t '=é"), max_size=5).map(str.strip), min_size=8, max_size=8
    ),
)
def test_any_label_and_group_survives(
    tmp_path_factory: pytest.TempPathFactory, labels: list[str], groups: list[str]
) -> None:
    root = tmp_path_factory.mktemp("labels")
    with (root / "given.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["path", "label", "group"])
        for number, (label, group) in enumerate(zip(labels, groups, strict=False)):
            (root / f"{number}.png").touch()
            rows.writerow([f"{number}.png", label, group])
    parts = find_parts(root / "given.csv")
    if len({p.label for p in parts}) > 1:
        write_split(parts, root / "made.csv")
        assert known(root / "made.csv") == known(root / "given.csv")


def test_splitting_a_split_gives_the_same(folder: Path) -> None:
    first, second = folder / "a.csv", folder / "b.csv"
    split(folder, first, seed=1)
    split(first, second, seed=1)
    assert first.read_text(encoding="utf-8") == second.read_text(encoding="utf-8")


def test_groups_stay_together_unless_asked_otherwise(folder: Path) -> None:
    given_ = folder / "given.csv"
    rows = [f"test/{k}/{i}.png,{k},tile {i % 5}" for k in ("good", "dent") for i in range(10)]
    given_.write_text("\n".join(["path,label,group", *rows]))
    summary = split(given_, folder / "made.csv")
    assert (summary.n_groups, summary.warnings) == (5, [])
    splits = {(p.group, p.split) for p in find_parts(folder / "made.csv")}
    assert len(splits) == 5
    summary = split(given_, folder / "made.csv", by="part")
    assert "groups in more than one split" in summary.warnings[0]
    assert "--by group" in summary.warnings[0]


def test_labels_with_too_few_parts_are_warned_of(folder: Path) -> None:
    for name in ("test/spot/0.png", "test/burr/0.png", "test/burr/1.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    said = split(folder, folder / "parts.csv").warnings
    assert "Label burr (2 parts) has none in" in said[0]
    assert "Label spot (1 part) has none in val and none in test" in said[1]
    assert "2 labels with fewer than 10 parts: burr (2), spot (1)" in said[2]


def test_a_split_without_share_is_left_out(folder: Path) -> None:
    assert split(folder, folder / "parts.csv", val=0).shares == {"train": 0.8, "test": 0.2}
    assert {p.split for p in find_parts(folder / "parts.csv")} == {"train", "test"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val": 0.5, "test": 0.5}, "add up to 1"),
        ({"val": 0, "test": 0}, "add up to 0"),
        ({"val": -0.1}, "share of val is -0.1"),
        ({"test": 1}, "share of test is 1"),
        ({"by": "grup"}, "Did you mean 'group'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_options_are_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        split(folder, folder / "parts.csv", **options)
    assert not (folder / "parts.csv").exists()


def test_one_label_is_refused(folder: Path) -> None:
    with pytest.raises(
        InputError, match=r"All 20 parts of .* \(flat folder\) have the label 'good'"
    ):
        split(folder / "train" / "good", folder / "parts.csv")


def test_only_such_a_manifest_is_replaced(folder: Path) -> None:
    output = folder / "parts.csv"
    split(folder, output, seed=1)
    before = output.read_bytes()
    split(folder, output, seed=2)
    assert output.read_bytes() != before
    for text in ("path,label\na.png,good\n", "path,label,split,lot\na.png,good,train,7\n", "x"):
        output.write_text(text)
        with pytest.raises(StorageError, match="it is left alone"):
            split(folder, output)
        assert output.read_text() == text


def test_the_manifest_that_is_read_is_left_alone(folder: Path) -> None:
    output = folder / "parts.csv"
    split(folder, output)
    with pytest.raises(StorageError, match="is the manifest that the parts are read from"):
        split(output, folder / "train" / ".." / "parts.csv")


@pytest.mark.parametrize("name", ["parts.txt", "parts"])
def test_other_names_and_folders_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"must end in \.csv"):
        split(folder, folder / name)
    (folder / "dir.csv").mkdir()
    with pytest.raises(StorageError, match="is a folder"):
        split(folder, folder / "dir.csv")


def test_what_fails_leaves_the_old_manifest_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = folder / "parts.csv"
    split(folder, output)
    before = sorted(folder.rglob("*")), output.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        split(folder, output, seed=7)
    assert (sorted(folder.rglob("*")), output.read_bytes()) == before


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")
@pytest.mark.parametrize("name", ["test/dent/a\rb.png", "test/dent /0.png", b"test/dent/\xff.png"])
def test_names_that_a_manifest_cannot_hold_are_told(folder: Path, name: str | bytes) -> None:
    path = folder / os.fsdecode(name)
    try:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    except OSError:
        pytest.skip("this file system allows no such names")
    with pytest.raises(InputError) as told:
        split(folder, folder / "parts.csv")
    assert "partial" not in str(told.value)
    assert not list(folder.glob("*.csv")) + list(folder.glob(".*.csv"))


@pytest.mark.skipif(os.name == "nt", reason="Windows allows no such names")
def test_no_path_is_a_formula_of_a_spreadsheet(folder: Path) -> None:
    dents = folder / "test" / "dent"
    for name in ("=1+1.png", "-1.png", "@a.png"):
        (dents / name).touch()
    split(folder, dents / "parts.csv")
    lines = (dents / "parts.csv").read_text().splitlines()
    assert {"./=1+1.png", "./-1.png", "./@a.png"} <= {line.split(",")[0] for line in lines}
    names = {part.path.name for part in find_parts(dents / "parts.csv").parts}
    assert {"=1+1.png", "-1.png", "@a.png"} <= names


# The verb


def test_the_verb_shows_labels_by_splits(cli: Callable[..., Any], folder: Path) -> None:
    output = folder / "parts.csv"
    told = cli("data", "split", folder, "-o", output, "--val", "0.1", "--test", "0.3")
    assert told.code == 0
    rows = [line.split() for line in told.out.splitlines()]
    assert ["label", "train", "val", "test"] in rows
    assert ["dent", "6", "1", "3"] in rows
    assert ["good", "18", "3", "9"] in rows
    assert f"Manifest: {output}" in told.out


def test_the_verb_writes_json(cli: Callable[..., Any], folder: Path) -> None:
    told = cli("data", "split", folder, "-o", folder / "parts.csv", "--json", "-", "--by", "part")
    found = json.loads(told.out)
    assert found["counts"]["dent"] == {"train": 6, "val": 2, "test": 2}
    assert (found["by"], found["seed"], found["n_parts"]) == ("part", 0, 50)
    assert "Manifest:" in told.err


def test_the_verb_refuses_one_class(cli: Callable[..., Any], folder: Path) -> None:
    told = cli("data", "split", folder / "train" / "good", "-o", folder / "parts.csv")
    assert told.code == 2
    assert "have the label 'good'" in told.err
