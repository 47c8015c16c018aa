"""The files of each public set, made small, in the MVTec AD layout."""

from __future__ import annotations

import csv
import gzip
import io
import tarfile
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from makellos import find_parts
from makellos.errors import StorageError
from makellos.sets.public_layouts import TILE_SPLIT, Job, arrange_public_set
from makellos.sets.public_sets import PUBLIC_SETS, Layout

RNG = np.random.default_rng(7)


def arrange(folder: Path, layout: Layout, category: str, files: Mapping[str, bytes]) -> str:
    """Arrange files in `folder/out`; give the remark on the split."""
    (folder / "out").mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    paths = [folder / name for name in files]
    job = Job(paths, category, folder / "raw", folder / "out", lambda *_: None)
    return arrange_public_set(layout, job)


def picture(values: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.asarray(values, np.uint8)).save(out, "PNG")
    return out.getvalue()


def tar(files: Mapping[str, bytes], mode: str = "w:xz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def zipped(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tree(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def values(path: Path) -> Any:
    with Image.open(path) as opened:
        return np.asarray(opened).tolist()


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as source:
        return list(csv.DictReader(source))


SCREWS = {
    "screw/readme.txt": b"hello",
    "screw/license.txt": b"non-commercial",
    "screw/train/good/000.png": b"good 0",
    "screw/test/good/000.png": b"good 1",
    "screw/test/thread_side/000.png": b"bad",
    "screw/ground_truth/thread_side/000_mask.png": b"mask",
}


@pytest.mark.parametrize("top", ["", "mvtec_anomaly_detection/"])
def test_mvtec_is_taken_as_it_is(tmp_path: Path, top: str) -> None:
    others = {name.replace("screw", "tile"): b"other" for name in SCREWS}
    files = {top + name: data for name, data in (others | SCREWS).items()}
    assert arrange(tmp_path, "mvtec_ad", "screw", {"screw.tar.xz": tar(files)}) == ""
    assert tree(tmp_path / "out") == sorted(name.removeprefix("screw/") for name in SCREWS)
    assert (tmp_path / "out/test/thread_side/000.png").read_bytes() == b"bad"


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("screw/ground_truth/thread_side/000_mask.png", "mask of test/thread_side/000.png"),
        ("screw/train/good/", "screw/train/good"),
    ],
)
def test_mvtec_says_what_is_missing(tmp_path: Path, left_out: str, message: str) -> None:
    files = {name: data for name, data in SCREWS.items() if not name.startswith(left_out)}
    with pytest.raises(StorageError, match=message):
        arrange(tmp_path, "mvtec_ad", "screw", {"screw.tar.xz": tar(files)})


VISA_SPLIT = """object,split,label,image,mask
candle,train,normal,candle/Data/Images/Normal/0001.JPG,
candle,train,normal,candle/Data/Images/Normal/0002.JPG,
candle,test,normal,candle/Data/Images/Normal/0003.JPG,
candle,test,anomaly,candle/Data/Images/Anomaly/001.JPG,candle/Data/Masks/Anomaly/001.png
candle,test,anomaly,candle/Data/Images/Anomaly/002.JPG,candle/Data/Masks/Anomaly/002.png
candle,test,anomaly,candle/Data/Images/Anomaly/003.JPG,candle/Data/Masks/Anomaly/003.png
pcb1,train,normal,pcb1/Data/Images/Normal/0001.JPG,
"""
VISA_KINDS = """image,label,mask
candle/Data/Images/Normal/0001.JPG,normal,
candle/Data/Images/Anomaly/001.JPG,Wax Melded out of the candle,candle/Data/Masks/Anomaly/001.png
candle/Data/Images/Anomaly/002.JPG,"extra wax in candle, other",candle/Data/Masks/Anomaly/002.png
"""
VISA = {
    "split_csv/1cls.csv": VISA_SPLIT.encode(),
    "candle/image_anno.csv": VISA_KINDS.encode(),
    "candle/Data/Images/Normal/0001.JPG": b"good 1",
    "candle/Data/Images/Normal/0002.JPG": b"good 2",
    "candle/Data/Images/Normal/0003.JPG": b"good 3",
    "candle/Data/Images/Anomaly/001.JPG": b"bad 1",
    "candle/Data/Images/Anomaly/002.JPG": b"bad 2",
    "candle/Data/Images/Anomaly/003.JPG": b"bad 3",
    "candle/Data/Masks/Anomaly/001.png": picture([[0, 1], [7, 0]]),
    "candle/Data/Masks/Anomaly/002.png": picture([[0, 2], [0, 0]]),
    "candle/Data/Masks/Anomaly/003.png": picture([[3, 0], [0, 0]]),
    "pcb1/Data/Images/Normal/0001.JPG": b"another category",
}


@pytest.mark.parametrize("top", ["", "VisA/"])
def test_visa_follows_the_official_split(tmp_path: Path, top: str) -> None:
    archive = tar({top + name: data for name, data in VISA.items()}, "w:")
    remark = arrange(tmp_path, "visa", "candle", {"VisA.tar": archive})
    out = tmp_path / "out"
    assert tree(out) == [
        "ground_truth/combined/002_mask.png",
        "ground_truth/defective/003_mask.png",
        "ground_truth/wax_melded_out_of_the_candle/001_mask.png",
        "test/combined/002.jpg",
        "test/defective/003.jpg",
        "test/good/0003.jpg",
        "test/wax_melded_out_of_the_candle/001.jpg",
        "train/good/0001.jpg",
        "train/good/0002.jpg",
    ]
    assert (out / "train/good/0002.jpg").read_bytes() == b"good 2"
    assert values(out / "ground_truth/wax_melded_out_of_the_candle/001_mask.png") == [
        [0, 255],
        [255, 0],
    ]
    assert "1cls.csv" in remark


def test_visa_without_its_split_is_refused(tmp_path: Path) -> None:
    files = {name: data for name, data in VISA.items() if "1cls" not in name}
    with pytest.raises(StorageError, match=r"split_csv/1cls\.csv"):
        arrange(tmp_path, "visa", "candle", {"VisA.tar": tar(files, "w:")})


@pytest.mark.parametrize("name", ["../secret.jpg", "/secret.jpg", "candle/absent.jpg", ""])
def test_visa_takes_no_file_from_outside_the_archive(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    split = f"object,split,label,image,mask\ncandle,train,normal,{name},\n"
    archive = tar(VISA | {"split_csv/1cls.csv": split.encode()}, "w:")
    with pytest.raises(StorageError):
        arrange(tmp_path, "visa", "candle", {"VisA.tar": archive})
    assert (tmp_path / "secret.jpg").read_bytes() == b"secret"


def tiles(n_tiles: int, defects: Mapping[int, str]) -> dict[str, bytes]:
    """Make tiles of two exposures; on a tile with a defect the second exposure shows it."""
    files = {"Repository.-abc/MT_Free/README.txt": b"", "Repository.-abc/dataset.jpg": b""}
    for tile in range(n_tiles):
        for exposure in (1, 2):
            kind = defects.get(tile, "Free") if exposure == 2 else "Free"
            stem = f"exp{exposure}_num_{1000 + 10 * tile + exposure}"
            folder = f"Repository.-abc/MT_{kind}/Imgs"
            files[f"{folder}/{stem}.jpg"] = stem.encode()
            files[f"{folder}/{stem}.png"] = picture([[0, 100, 200, 255]])
    return files


def test_magnetic_tiles_are_split_by_tile(tmp_path: Path) -> None:
    archive = zipped(tiles(30, {3: "Crack", 9: "Blowhole"}))
    remark = arrange(tmp_path, "magnetic_tile", "", {"magnetic_tile.zip": archive})
    out = tmp_path / "out"
    rows = table(out / "tiles.csv")
    assert [row["path"] for row in rows if row["label"] != "good"] == [
        "test/crack/exp2_num_1032.jpg",
        "test/blowhole/exp2_num_1092.jpg",
    ]
    named = [row[key] for row in rows for key in ("path", "mask") if row[key]]
    assert sorted([*named, "tiles.csv"]) == tree(out)
    by_tile: dict[str, set[str]] = {}
    for row in rows:
        by_tile.setdefault(row["group"], set()).add(row["split"])
        assert row["path"].startswith(f"{row['split']}/{row['label']}/")
    assert len(by_tile) == 30
    assert {len(splits) for splits in by_tile.values()} == {1}
    assert by_tile["tile003"] == by_tile["tile009"] == {"test"}
    # 28 tiles without a defect: the last block of five of every 25 is for testing.
    assert len(list(out.glob("train/good/*.jpg"))) == 2 * 23
    assert len(list(out.glob("test/good/*.jpg"))) == 2 * 5 + 2
    assert values(out / "ground_truth/crack/exp2_num_1032_mask.png") == [[0, 0, 255, 255]]
    assert remark == TILE_SPLIT


def test_the_split_of_magnetic_tiles_is_the_same_every_time(tmp_path: Path) -> None:
    files = tiles(30, {3: "Fray"})
    tables = []
    for number, names in enumerate((list(files), list(reversed(files)))):
        archive = zipped({name: files[name] for name in names})
        folder = tmp_path / str(number)
        arrange(folder, "magnetic_tile", "", {"magnetic_tile.zip": archive})
        tables.append((folder / "out/tiles.csv").read_bytes())
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    ("left_out", "added", "message"),
    [
        ("MT_Crack/Imgs/exp2_num_1012.png", "", r"exp2_num_1012\.png"),
        ("", "MT_Free/Imgs/unknown.jpg", r"unknown\.jpg is not called"),
    ],
)
def test_a_magnetic_tile_that_does_not_fit_is_named(
    tmp_path: Path, left_out: str, added: str, message: str
) -> None:
    files = tiles(3, {1: "Crack"})
    files.pop(f"Repository.-abc/{left_out}", None)
    if added:
        files[f"Repository.-abc/{added}"] = b""
    with pytest.raises(StorageError, match=message):
        arrange(tmp_path, "magnetic_tile", "", {"magnetic_tile.zip": zipped(files)})


def idx(array: np.ndarray[Any, Any]) -> bytes:
    header = bytes([0, 0, 8, array.ndim]) + np.asarray(array.shape, ">u4").tobytes()
    return gzip.compress(header + array.astype(np.uint8).tobytes())


def digits(changed: Mapping[str, bytes]) -> dict[str, bytes]:
    return {
        "train_images.gz": idx(RNG.integers(0, 256, (6, 5, 4))),
        "train_labels.gz": idx(np.array([3, 1, 3, 0, 3, 9])),
        "test_images.gz": idx(np.arange(4 * 5 * 4).reshape(4, 5, 4)),
        "test_labels.gz": idx(np.array([3, 1, 9, 3])),
    } | dict(changed)


def test_mnist_makes_one_digit_the_good_one(tmp_path: Path) -> None:
    remark = arrange(tmp_path, "mnist", "3", digits({}))
    out = tmp_path / "out"
    assert tree(out) == [
        "test/1/00001.png",
        "test/9/00002.png",
        "test/good/00000.png",
        "test/good/00003.png",
        "train/good/00000.png",
        "train/good/00002.png",
        "train/good/00004.png",
    ]
    assert values(out / "test/1/00001.png") == np.arange(20, 40).reshape(5, 4).tolist()
    assert "digit 3 is good" in remark


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(b""),
        gzip.compress(bytes([0, 0, 8, 3]) + b"\xff\xff\xff\xff" * 3 + b"12"),
        idx(RNG.integers(0, 256, (4, 5, 4)))[:60],
        idx(np.zeros(4)),
        idx(np.zeros((5, 5, 4))),
    ],
    ids=["empty", "forged sizes", "cut", "axes", "more pictures than labels"],
)
def test_a_damaged_idx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(StorageError, match=r"test_images\.gz"):
        arrange(tmp_path, "mnist", "3", digits({"test_images.gz": content}))


def test_a_numpy_file_stays_as_it_is(tmp_path: Path) -> None:
    out = io.BytesIO()
    pictures = RNG.integers(0, 256, (5, 8, 8), dtype=np.uint8)
    np.savez(out, x_train=pictures, y_train=range(5), x_test=pictures[:2], y_test=range(2))
    remark = arrange(tmp_path, "numpy_file", "", {"mnist.npz": out.getvalue()})
    assert "5 pictures for training and 2 for testing" in remark
    assert tree(tmp_path / "out") == ["mnist.npz"]
    assert (tmp_path / "out" / "mnist.npz").read_bytes() == out.getvalue()


def test_cwru_is_one_good_recording_divided_in_time(tmp_path: Path) -> None:
    files = {file.name: file.name.encode() for file in PUBLIC_SETS["cwru"].files}
    remark = arrange(tmp_path, "cwru", "", files)
    assert "--rate 48000 --channel DE --bearing 6205" in remark
    assert {path.partition("/")[0] for path in tree(tmp_path / "out")} == {
        *("recordings.csv", "test", "train"),
    }
    found = find_parts(tmp_path / "out" / "recordings.csv")
    assert Counter((part.split, part.label) for part in found)["test", "good"] == 1
    assert len(found.test()) == 10
    assert len({part.label for part in found.test()}) == 10
    assert (found.good()[0].path, found.good()[0].details["end"]) == (
        tmp_path / "out" / "train" / "good" / "97.mat",
        "50%",
    )


def cifar(left_out: str = "", tail: bytes = b"") -> dict[str, bytes]:
    def batch(labels: list[int]) -> bytes:
        records = []
        for label in labels:
            pixels = np.zeros((3, 32, 32), np.uint8)
            pixels[0, 0, 1], pixels[1, 2, 0], pixels[2] = 200, 100, label
            records.append(bytes([label]) + pixels.tobytes())
        return b"".join(records)

    top = "cifar-10-batches-bin"
    files = {f"{top}/data_batch_{number}.bin": batch([1, number - 1]) for number in range(1, 6)}
    files[f"{top}/test_batch.bin"] = batch([1, 9, 1]) + tail
    files[f"{top}/batches.meta.txt"] = b"airplane"
    files.pop(f"{top}/{left_out}", None)
    return {"cifar.tar.gz": tar(files, "w:gz")}


def test_cifar10_makes_one_class_the_good_one(tmp_path: Path) -> None:
    remark = arrange(tmp_path, "cifar10", "automobile", cifar())
    out = tmp_path / "out"
    # Every batch begins with an automobile, and the second batch has another one.
    assert tree(out) == [
        "test/good/00000.png",
        "test/good/00002.png",
        "test/truck/00001.png",
        *(f"train/good/{number:05d}.png" for number in (0, 2, 3, 4, 6, 8)),
    ]
    with Image.open(out / "test/truck/00001.png") as truck:
        assert (truck.mode, truck.size) == ("RGB", (32, 32))
        assert truck.getpixel((1, 0)) == (200, 0, 9)
        assert truck.getpixel((0, 2)) == (0, 100, 9)
    assert "class automobile is good" in remark


@pytest.mark.parametrize(
    ("left_out", "tail", "message"),
    [
        ("data_batch_4.bin", b"", r"data_batch_4\.bin"),
        ("", b"tail", "not a whole number"),
        ("", bytes([10]) + bytes(3072), "one label"),
    ],
)
def test_cifar10_that_is_incomplete_is_refused(
    tmp_path: Path, left_out: str, tail: bytes, message: str
) -> None:
    with pytest.raises(StorageError, match=message):
        arrange(tmp_path, "cifar10", "automobile", cifar(left_out, tail))
