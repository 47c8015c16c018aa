"""Where parts come from: layouts of folders, manifests, and their mistakes."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from makellos import find_parts
from makellos.data.layouts import walk_parts
from makellos.data.parts import Part, PartSet, group_names
from makellos.errors import InputError


def make(root: Path, *names: str) -> Path:
    """Write empty files: no picture is opened to list parts."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def told(parts: PartSet) -> dict[str, tuple[str, str | None]]:
    return {part.name: (part.label, part.split) for part in parts}


def masks(parts: PartSet) -> dict[str, str]:
    root = parts.root
    return {p.name: p.mask.relative_to(root).as_posix() for p in parts if p.mask is not None}


def manifest(root: Path, text: str, name: str = "parts.csv", encoding: str = "utf-8") -> Path:
    path = root / name
    path.write_bytes(text.encode(encoding))
    return path


MVTEC = (
    "train/good/000.png",
    "train/good/001.PNG",
    "test/good/000.jpg",
    "test/scratch/000.png",
    "test/scratch/001.png",
    "test/dent/000.png",
    "ground_truth/scratch/000_mask.png",
    "ground_truth/dent/000.png",
)


def test_mvtec_layout(tmp_path: Path) -> None:
    found = find_parts(make(tmp_path, *MVTEC, "readme.txt", "test/scratch/notes.txt"))
    assert found.layout == "MVTec AD"
    assert told(found) == {
        "test/dent/000.png": ("dent", "test"),
        "test/good/000.jpg": ("good", "test"),
        "test/scratch/000.png": ("scratch", "test"),
        "test/scratch/001.png": ("scratch", "test"),
        "train/good/000.png": ("good", "train"),
        "train/good/001.PNG": ("good", "train"),
    }
    assert list(told(found)) == sorted(told(found))
    assert masks(found) == {
        "test/dent/000.png": "ground_truth/dent/000.png",
        "test/scratch/000.png": "ground_truth/scratch/000_mask.png",
    }
    assert [part.name for part in found.good()] == ["train/good/000.png", "train/good/001.PNG"]
    assert [part.label for part in found.test()] == ["dent", "good", "scratch", "scratch"]
    assert found.calibration() == ()


@pytest.mark.parametrize("folder", ["val", "validation", "Validation"])
def test_validation_calibrates_and_is_not_learned_from(folder: str, tmp_path: Path) -> None:
    make(tmp_path, "train/good/0.png", f"{folder}/good/1.png", f"{folder}/dent/2.png")
    found = find_parts(tmp_path)
    assert [part.name for part in found.calibration()] == [f"{folder}/good/1.png"]
    assert [part.name for part in found.good()] == ["train/good/0.png"]


def test_case_of_folders_makes_no_difference(tmp_path: Path) -> None:
    make(tmp_path, "Train/OK/0.png", "TEST/Good/1.png", "TEST/Dent/2.png")
    make(tmp_path, "Ground_Truth/dent/2_mask.PNG")
    found = find_parts(tmp_path)
    assert told(found) == {
        "TEST/Dent/2.png": ("Dent", "test"),
        "TEST/Good/1.png": ("good", "test"),
        "Train/OK/0.png": ("good", "train"),
    }
    assert masks(found) == {"TEST/Dent/2.png": "Ground_Truth/dent/2_mask.PNG"}


def test_pictures_directly_in_train_are_good_and_in_test_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "train/0.png", "test/dent/1.png")
    assert told(find_parts(tmp_path))["train/0.png"] == ("good", "train")
    make(tmp_path, "test/2.png")
    with pytest.raises(InputError, match=r"2\.png has no label, .* Move it to test/good"):
        find_parts(tmp_path)


def test_a_mask_belongs_to_one_picture(tmp_path: Path) -> None:
    make(tmp_path, "train/dent/0.png", "test/dent/0.png", "test/dent/left/0.png")
    make(tmp_path, "ground_truth/dent/0_mask.png", "ground_truth/dent/left/0_mask.png")
    assert masks(find_parts(tmp_path)) == {
        "test/dent/0.png": "ground_truth/dent/0_mask.png",
        "test/dent/left/0.png": "ground_truth/dent/left/0_mask.png",
    }


@pytest.mark.parametrize(
    ("candidates", "taken"),
    [
        (["0.png", "0_mask.png"], "0_mask.png"),
        (["0.bmp", "0.png"], "0.png"),
        (["0_mask.tif"], "0_mask.tif"),
        (["00_mask.png"], None),
        (["_mask.png", "mask/0.png"], None),
    ],
)
def test_which_mask_is_taken(candidates: list[str], taken: str | None, tmp_path: Path) -> None:
    make(tmp_path, "test/dent/0.jpg", *(f"ground_truth/dent/{name}" for name in candidates))
    expected = {} if taken is None else {"test/dent/0.jpg": f"ground_truth/dent/{taken}"}
    assert masks(find_parts(tmp_path)) == expected


@pytest.mark.parametrize("good", ["good", "ok", "OK", "Good"])
def test_class_folders(good: str, tmp_path: Path) -> None:
    make(tmp_path, f"{good}/0.png", "defective/0.png", "ground_truth/defective/0.png")
    make(tmp_path, ".cache/9.png", "beside.png")
    found = find_parts(tmp_path)
    assert found.layout == "class folders"
    assert told(found) == {"defective/0.png": ("defective", None), f"{good}/0.png": ("good", None)}
    assert masks(found) == {"defective/0.png": "ground_truth/defective/0.png"}
    assert len(found.good()) == 1
    assert len(found.test()) == 2


@pytest.mark.parametrize("folders", [("crack", "dent"), ("NOK",), ("defective", "ground_truth")])
def test_folders_of_defects_are_not_taken_for_good(
    folders: tuple[str, ...], tmp_path: Path
) -> None:
    make(tmp_path, *(f"{folder}/0.png" for folder in folders))
    found = find_parts(tmp_path)
    assert found.layout == "class folders"
    assert {part.label for part in found} == set(folders) - {"ground_truth"}
    assert found.good() == ()


@pytest.mark.parametrize(
    "names",
    [("0.png", "b/1.jpeg", "a/2.TIFF"), ("lot 7/0.png",), ("0.png", "ground_truth/0_mask.png")],
)
def test_flat_folder(names: tuple[str, ...], tmp_path: Path) -> None:
    found = find_parts(make(tmp_path, *names))
    assert found.layout == "flat folder"
    expected = sorted(name for name in names if "ground_truth" not in name)
    assert told(found) == dict.fromkeys(expected, ("good", None))
    assert found.good() == found.test() == found.parts


def test_a_relative_folder_gives_the_same_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, *MVTEC)
    expected = told(find_parts(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert told(find_parts(Path())) == expected
    monkeypatch.chdir(tmp_path / "train")
    assert told(find_parts(Path(".."))) == expected


def test_labels_that_differ_in_case_are_one(tmp_path: Path) -> None:
    make(tmp_path, "good/0.png", "a.png", "b.png", "c.png")
    path = manifest(tmp_path, "path,label\na.png,Scratch\nb.png,SCRATCH\nc.png,Ok\n")
    assert [part.label for part in find_parts(path)] == ["Scratch", "Scratch", "good"]


def test_walk_skips_what_is_no_part(tmp_path: Path) -> None:
    make(tmp_path, "b.png", "a/c.webp", "a-b/d.bmp", "notes.txt", "x.png.part")
    make(tmp_path, ".hidden.png", ".trash/e.png", "._b.png", "@eaDir/f.jpg", "__MACOSX/g.png")
    (tmp_path / "folder.png").mkdir()
    make(tmp_path, "folder.png/h.png")
    found = [path.relative_to(tmp_path).as_posix() for path in walk_parts(tmp_path)]
    # as the names sort, on every system
    assert found == ["a-b/d.bmp", "a/c.webp", "b.png", "folder.png/h.png"]


def test_walk_takes_a_hidden_folder_that_was_asked_for(tmp_path: Path) -> None:
    make(tmp_path, ".data/a.png")
    assert len(walk_parts(tmp_path / ".data")) == 1


def test_a_folder_that_cannot_be_listed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "train/good/0.png", "train/locked/1.png")
    scandir = os.scandir

    def refuse(path: str | os.PathLike[str]) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"locked cannot be read: Permission denied"):
        find_parts(tmp_path)


def test_data_that_is_not_there_or_empty(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone does not exist\. Give a folder of pictures"):
        find_parts(tmp_path / "gone")
    with pytest.raises(InputError, match=r"contains no picture .*Put pictures of good parts there"):
        find_parts(make(tmp_path, "notes.md"))
    with pytest.raises(InputError, match=r"notes\.md is a file, but not a CSV manifest"):
        find_parts(tmp_path / "notes.md")
    with pytest.raises(InputError, match=r"does not exist|cannot be read"):
        find_parts(tmp_path / ("x" * 5000))


FULL = (
    "path,label,split,mask,group,remark\n"
    "a.png,good,train,,lot 1,fine\n"
    "sub/b.png,Scratch,test,m.png,lot 2,\n"
    "c.png,OK,Val,,,\n"
)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("start", ["", "\ufeff", "sep=\n"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_manifest(delimiter: str, start: str, end: str, tmp_path: Path) -> None:
    make(tmp_path, "a.png", "sub/b.png", "c.png", "m.png")
    text = start.replace("=", "=" + delimiter) + FULL.replace(",", delimiter)
    found = find_parts(manifest(tmp_path, text.replace("\n", end)))
    assert found.layout == "CSV manifest"
    assert found.root == tmp_path
    assert found.parts == (
        Part(source=tmp_path / "a.png", name="a.png", split="train", group="lot 1"),
        Part(
            source=tmp_path / "sub" / "b.png",
            name="sub/b.png",
            label="Scratch",
            split="test",
            mask=tmp_path / "m.png",
            group="lot 2",
        ),
        Part(source=tmp_path / "c.png", name="c.png", split="val"),
    )


def test_manifest_of_paths_alone_lists_good_parts(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b c.png")
    found = find_parts(manifest(tmp_path, "Path\na.png\n\n b c.png \n"))
    assert told(found) == {"a.png": ("good", None), "b c.png": ("good", None)}


def test_manifest_takes_absolute_windows_and_quoted_paths(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "sub/b.png", "c, d.png", "lists/x")
    rows = f'path,label\n{tmp_path / "a.png"},good\n..\\sub\\b.png,good\n"../c, d.png",good\n'
    found = find_parts(manifest(tmp_path / "lists", rows))
    assert [part.path.resolve() for part in found] == [
        (tmp_path / name).resolve() for name in ("a.png", "sub/b.png", "c, d.png")
    ]
    assert [part.name for part in found] == [
        (tmp_path / "a.png").as_posix(),
        "../sub/b.png",
        "../c, d.png",
    ]


def test_manifest_names_absolute_paths_below_it_as_relative_ones(tmp_path: Path) -> None:
    make(tmp_path, "sub/a.png")
    found = find_parts(manifest(tmp_path, f"path\n{tmp_path / 'sub' / 'a.png'}\n"))
    assert [part.name for part in found] == ["sub/a.png"]


def test_manifest_names_every_mistake_with_its_line(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png", "c.png", "m.png")
    path = manifest(
        tmp_path,
        "path,label,split,mask\n"
        "a.png,good,tset,\n"
        "gone.png,good,,\n"
        ",,,\n"
        "\n"
        "b.png,,,\n"
        ",good,,\n"
        "c.png,scratch,test,gone.png\n"
        "c, d.png,good,train,m.png\n"
        f"{'x' * 5000}.png,good,,\n",
    )
    with pytest.raises(InputError) as raised:
        find_parts(path)
    lines = str(raised.value).split("\n  ")
    assert lines[0] == f"{path} has 7 mistakes. Correct the lines:"
    expected = (
        r"line 9: 5 cells, but 4 columns \(put double quotes .*",
        r"line 2: split 'tset' is not train, val or test",
        rf"line 3: gone\.png does not exist \(paths are relative to {re.escape(str(tmp_path))}\)",
        r"line 6: no label \(good, defective, or the name of a defect\)",
        r"line 7: no path",
        r"line 8: mask gone\.png does not exist",
        r"line 10: x+…x+\.png does not exist .*",
    )
    for line in expected:
        assert sum(re.fullmatch(line, found) is not None for found in lines) == 1, line


def test_manifest_refuses_parts_that_are_listed_twice(tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png")
    path = manifest(tmp_path, f"path,label\na.png,good\nb.png,good\n{tmp_path}/b.png,scratch\n")
    with pytest.raises(InputError, match=r"1 mistake\..*\n  line 4: b\.png is listed in line 3"):
        find_parts(path)


def test_many_mistakes_are_counted(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path\n" + "".join(f"{n}.png\n" for n in range(100)))
    with pytest.raises(InputError, match=r"has 100 mistakes\.") as raised:
        find_parts(path)
    assert str(raised.value).endswith(
        f"line 21: 19.png does not exist (paths are relative to {tmp_path})\n  and 80 more"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"no column 'path' in its first line\. Known: none\."),
        ("pth;label\na.png;good\n", r"Did you mean 'pth'\? Known: label, pth"),
        ("path,path\na.png,a.png\n", r"more than one column 'path'"),
        ("path,label\n", r"lists no parts\. Add a row"),
        ('path,label\n"a.png,good\nb.png,good\n', r"line 3: .*Put double quotes around cells"),
        ('path,label\n"a.png"b,good\n', r"line 2: .*Put double quotes around cells"),
    ],
)
def test_manifest_that_is_no_table(text: str, reason: str, tmp_path: Path) -> None:
    make(tmp_path, "a.png", "b.png")
    with pytest.raises(InputError, match=reason):
        find_parts(manifest(tmp_path, text))


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_manifest_in_another_encoding(encoding: str, tmp_path: Path) -> None:
    path = manifest(tmp_path, "path\nschön.png\n", encoding=encoding)
    with pytest.raises(InputError, match=r"is not UTF-8 text \(byte \d+\)\. Save it again as"):
        find_parts(path)


def test_manifest_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = manifest(make(tmp_path, "a.png"), "path\na.png\n")

    def refuse(path: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"parts\.csv cannot be read: Permission denied"):
        find_parts(path)


def test_parts_without_group_are_groups_of_their_own(tmp_path: Path) -> None:
    parts = [
        Part(source=tmp_path / "a", name="a", group="lot"),
        Part(source=tmp_path / "b", name="b", group="lot"),
        Part(source=tmp_path / "c", name="c"),
        Part(source=tmp_path / "d", name="d"),
    ]
    names = group_names(parts)
    assert names[0] == names[1]
    assert len(set(names)) == 3
