"""Turn the files of each public set into the MVTec AD layout.

`train/good`, `test/<type>` and, where there are masks, `ground_truth/<type>/<stem>_mask.png`.
Pictures keep their bytes; masks become 0 and 255 in one channel.
"""

from __future__ import annotations

import csv
import io
import math
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from makellos.data.layouts import list_parts
from makellos.data.progress import Progress
from makellos.errors import StorageError
from makellos.sets.archives import read_gzip, safe_path, unpack
from makellos.sets.public_sets import CIFAR10_CLASSES, Layout
from makellos.storage import write_bytes

__all__ = ["LAYOUTS", "TILE_SPLIT", "Job", "arrange_public_set"]

Bytes = npt.NDArray[np.uint8]

PICTURES = (".png", ".jpg", ".jpeg", ".bmp")
CIFAR10_SHAPE = (3, 32, 32)
# Neighbouring tiles stay on one side, so that a tile whose exposures were taken for two costs
# little: of every five blocks of five good tiles the last is for testing.
TILE_BLOCK = 5
TILE_BLOCKS = 5
# By number of the file: the place of the damage, and its width in thousandths of an inch.
CWRU_KINDS = {
    "97": "good",
    "109": "inner_007",
    "174": "inner_014",
    "213": "inner_021",
    "122": "ball_007",
    "189": "ball_014",
    "226": "ball_021",
    "135": "outer_007",
    "201": "outer_014",
    "238": "outer_021",
}
_GOOD_PIECES = (("train", "0%", "50%"), ("val", "50%", "75%"), ("test", "75%", "100%"))
TILE_SPLIT = (
    "The set has no official split. This one is by tile, as inferred from the order of the file "
    "names: every tile with a defect is for testing, as is every fifth block of five of the "
    "others; the rest is for training. tiles.csv names the tile of each picture"
)
_TILE_NAME = re.compile(r"exp(\d+)_num_(\d+)")


@dataclass(frozen=True)
class Job:
    """Hold one set to arrange.

    Parameters
    ----------
    files : the downloaded files, in the order of the catalogue.
    category : the category, or the class that is good.
    raw : a folder that does not exist yet, for what the archive holds.
    out : the empty folder that gets the layout.
    progress : called with what is done, how much of it, and how much there is.
    """

    files: Sequence[Path]
    category: str
    raw: Path
    out: Path
    progress: Progress

    def unpack(self, wanted: Callable[[PurePosixPath], bool]) -> None:
        """Unpack the only file into `raw`, as far as `wanted` says so of the path in it."""
        (archive,) = self.files
        unpack(
            archive,
            self.raw,
            wanted=lambda name: wanted(PurePosixPath(name)),
            progress=self.progress,
        )


def arrange_public_set(layout: Layout, job: Job) -> str:
    """Write the set of `job` into its folder `out` and return a remark on its split, or nothing.

    Raises
    ------
    StorageError : where the files do not hold what the set is known to hold.
    """
    remark = LAYOUTS[layout](job)
    if layout != "numpy_file" and not any((job.out / "train" / "good").glob("*")):
        raise _missing(job, f"pictures of good parts for {job.category or layout}")
    return remark


def _arrange_mvtec_ad(job: Job) -> str:
    notices = ("license.txt", "readme.txt")
    job.unpack(
        lambda path: (
            path.name in notices
            or (job.category in path.parts[:-1] and path.suffix.lower() in PICTURES)
        )
    )
    homes = [train.parent for train in sorted(job.raw.rglob("train")) if (train / "good").is_dir()]
    home = next((folder for folder in homes if folder.name == job.category), None)
    if home is None:
        raise _missing(job, f"the folder {job.category}/train/good")
    for part in ("train", "test", "ground_truth"):
        if (home / part).is_dir():
            (home / part).rename(job.out / part)
    for notice in notices:
        for found in sorted(job.raw.rglob(notice))[:1]:
            found.rename(job.out / notice)
    for picture in sorted((job.out / "test").rglob("*.png")):
        kind = picture.parent.name
        mask = job.out / "ground_truth" / kind / f"{picture.stem}_mask.png"
        if kind != "good" and not mask.is_file():
            raise _missing(job, f"the mask of test/{kind}/{picture.name}")
    return ""


def _arrange_visa(job: Job) -> str:
    split = ("split_csv", "1cls.csv")
    job.unpack(
        lambda path: (
            path.parts[-2:] == split
            or (job.category in path.parts[:-1] and path.suffix.lower() in (*PICTURES, ".csv"))
        )
    )
    tables = sorted(job.raw.rglob("/".join(split)))
    if not tables:
        raise _missing(job, "the official split split_csv/1cls.csv")
    root = tables[0].parent.parent
    kinds = _visa_kinds(root / job.category / "image_anno.csv")
    rows = [row for row in _read_table(tables[0]) if row.get("object") == job.category]
    for done, row in enumerate(rows, start=1):
        _place_visa(job, root, row, kinds)
        job.progress("arrange pictures", done, len(rows))
    return "Split: the official one-class split, split_csv/1cls.csv"


def _place_visa(
    job: Job, root: Path, row: Mapping[str, str | None], kinds: Mapping[str, str]
) -> None:
    name = row.get("image") or ""
    is_good = row.get("label") == "normal"
    kind = "good" if is_good else kinds.get(name, "defective")
    part = "train" if row.get("split") == "train" else "test"
    picture = _existing(job, safe_path(root, name))
    target = _new(job.out / part / kind / f"{picture.stem}{picture.suffix.lower()}")
    picture.rename(target)
    if not is_good:
        mask = _existing(job, safe_path(root, row.get("mask") or ""))
        # The masks hold the numbers of the defect types: 0 is good, all else is not.
        _write_mask(job.out, kind, picture.stem, _read_picture(mask) > 0)


def _visa_kinds(table: Path) -> dict[str, str]:
    """Read the defect of each picture: its name, or `combined` where there are several."""
    if not table.is_file():
        return {}
    kinds = {}
    for row in _read_table(table):
        labels = [label.strip().lower() for label in (row.get("label") or "").split(",")]
        kind = re.sub(r"[^a-z0-9]+", "_", labels[0]).strip("_")
        kind = "defective" if kind in ("", "good", "normal") else kind
        kinds[row.get("image") or ""] = kind if len(labels) == 1 else "combined"
    return kinds


def _arrange_magnetic_tile(job: Job) -> str:
    job.unpack(
        lambda path: (
            any(part.startswith("MT_") for part in path.parts) and path.suffix.lower() in PICTURES
        )
    )
    pictures = sorted(
        job.raw.rglob("*.jpg"), key=lambda picture: (_tile_order(picture), _tile_label(picture))
    )
    labels = [_tile_label(picture) for picture in pictures]
    tiles = _number_tiles([_tile_order(picture) for picture in pictures])
    tested = _tested_tiles(tiles, labels)
    rows = []
    for done, (picture, label, tile) in enumerate(zip(pictures, labels, tiles, strict=True), 1):
        part = "test" if tile in tested else "train"
        rows.append(_place_tile(job, picture, label, part) | {"group": f"tile{tile:03d}"})
        job.progress("arrange pictures", done, len(pictures))
    with (job.out / "tiles.csv").open("w", encoding="utf-8", newline="") as sink:
        writer = csv.DictWriter(sink, ["path", "label", "split", "mask", "group"])
        writer.writeheader()
        writer.writerows(rows)
    return TILE_SPLIT


def _tile_label(picture: Path) -> str:
    folder = next(part for part in reversed(picture.parts) if part.startswith("MT_"))
    kind = folder.removeprefix("MT_").lower()
    return "good" if kind == "free" else kind


def _tile_order(picture: Path) -> tuple[int, int]:
    """Return the running number and the exposure of a picture."""
    found = _TILE_NAME.fullmatch(picture.stem)
    if found is None:
        raise StorageError(
            f"The picture {picture.name} is not called exp1_num_123.jpg or the like, so its tile "
            "is unknown: the archive is not the one this set is made of. Download it again."
        )
    return int(found[2]), int(found[1])


def _number_tiles(order: Sequence[tuple[int, int]]) -> list[int]:
    """Return the tile of each picture: exposures count up on one tile and start anew on the next.

    >>> _number_tiles([(855, 1), (887, 2), (889, 4), (913, 3), (937, 5)])
    [0, 0, 0, 1, 1]
    """
    tiles = [0] * min(len(order), 1)
    for before, now in pairwise(order):
        tiles.append(tiles[-1] + (now[1] <= before[1] and now != before))
    return tiles


def _tested_tiles(tiles: Sequence[int], labels: Sequence[str]) -> set[int]:
    defective = {tile for tile, label in zip(tiles, labels, strict=True) if label != "good"}
    good = sorted(set(tiles) - defective)
    last = {
        tile
        for position, tile in enumerate(good)
        if position // TILE_BLOCK % TILE_BLOCKS == TILE_BLOCKS - 1
    }
    return defective | last


def _place_tile(job: Job, picture: Path, label: str, part: str) -> dict[str, str]:
    target = _new(job.out / part / label / picture.name)
    row = {"path": f"{part}/{label}/{picture.name}", "label": label, "split": part, "mask": ""}
    if label != "good":
        mask = _read_picture(_existing(job, picture.with_suffix(".png")))
        _write_mask(job.out, label, picture.stem, mask > mask.max() / 2)
        row["mask"] = f"ground_truth/{label}/{picture.stem}_mask.png"
    picture.rename(target)
    return row


def _arrange_mnist(job: Job) -> str:
    parts = [_read_idx(path, axes) for path, axes in zip(job.files, (3, 1, 3, 1), strict=True)]
    names = [str(digit) for digit in range(10)]
    _write_one_class(job, "train", parts[0], parts[1], names)
    _write_one_class(job, "test", parts[2], parts[3], names)
    return _one_class_remark(job, "digit")


def _read_idx(path: Path, axes: int) -> Bytes:
    """Read an IDX file of unsigned bytes: magic number, sizes (big-endian 32 bit), values."""
    content = read_gzip(path)
    header = 4 + 4 * axes
    shape = tuple(int(size) for size in np.frombuffer(content[4:header], ">u4"))
    is_idx = content[:4] == bytes([0, 0, 8, axes]) and len(shape) == axes
    # Sizes multiply as Python integers: a forged header cannot overflow.
    if not is_idx or len(content) != header + math.prod(shape):
        raise StorageError(
            f"{path} is not an IDX file with {axes} axes of bytes, or it is cut short. "
            "Delete it and download it again."
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _arrange_cifar10(job: Job) -> str:
    job.unpack(lambda path: path.suffix == ".bin")
    batches = {path.name: path for path in job.raw.rglob("*.bin")}
    train = [f"data_batch_{number}.bin" for number in range(1, 6)]
    for part, names in (("train", train), ("test", ["test_batch.bin"])):
        absent = sorted(set(names) - set(batches))
        if absent:
            raise _missing(job, ", ".join(absent))
        records = np.concatenate([_read_cifar10(batches[name]) for name in names])
        pictures = records[:, 1:].reshape(-1, *CIFAR10_SHAPE).transpose(0, 2, 3, 1)
        _write_one_class(job, part, pictures, records[:, 0], CIFAR10_CLASSES)
    return _one_class_remark(job, "class")


def _read_cifar10(path: Path) -> Bytes:
    """Read records of one label and 3x32x32 values each."""
    size = 1 + math.prod(CIFAR10_SHAPE)
    values = np.fromfile(path, np.uint8)
    if values.size == 0 or values.size % size:
        raise StorageError(
            f"{path.name} has {values.size} bytes, which is not a whole number of {size}-byte "
            "records. "
            "Delete the archive and download it again."
        )
    return values.reshape(-1, size)


def _write_one_class(
    job: Job, part: str, pictures: Bytes, labels: Bytes, names: Sequence[str]
) -> None:
    """Write the good class and, for testing, the others, each under its number in the set."""
    if len(pictures) != len(labels) or (labels >= len(names)).any():
        raise _missing(job, f"one label of {', '.join(names)} for each picture")
    good = names.index(job.category)
    chosen = np.flatnonzero(labels == good) if part == "train" else np.arange(len(labels))
    folders = {}
    for label in np.unique(labels[chosen]).tolist():
        folders[label] = job.out / part / ("good" if label == good else names[label])
        folders[label].mkdir(parents=True)
    for done, index in enumerate(chosen.tolist(), start=1):
        _write_png(folders[int(labels[index])] / f"{index:05d}.png", pictures[index])
        job.progress(f"write {part} pictures", done, len(chosen))


def _one_class_remark(job: Job, what: str) -> str:
    return (
        f"One-class set: {what} {job.category} is good, training and test part are the "
        "official ones, the other test pictures are the defective ones and have no masks"
    )


def _arrange_numpy_file(job: Job) -> str:
    (source,) = job.files
    shutil.copyfile(source, job.out / source.name)
    parts = list_parts(job.out / source.name).parts
    n_train = sum(part.split == "train" for part in parts)
    return (
        f"{source.name} holds {n_train:,} pictures for training and {len(parts) - n_train:,} for "
        f"testing, with labels. Say which is good: makellos fit FOLDER/{source.name} -o MODEL "
        "--good 0"
    )


def _arrange_cwru(job: Job) -> str:
    rows = []
    for source in job.files:
        kind = CWRU_KINDS[source.stem]
        place = f"{'train' if kind == 'good' else 'test'}/{kind}/{source.name}"
        shutil.copyfile(source, _new(job.out / place))
        pieces = _GOOD_PIECES if kind == "good" else (("test", "", ""),)
        rows += [[place, kind, split, start, end, "1797"] for split, start, end in pieces]
    with (job.out / "recordings.csv").open("w", encoding="utf-8", newline="") as sink:
        csv.writer(sink).writerows([["path", "label", "split", "start", "end", "speed"], *rows])
    return (
        "There is one good recording; recordings.csv gives its first half to learn from, the next "
        "quarter to calibrate and the last to test. Next: makellos fit FOLDER/recordings.csv -o "
        "MODEL --rate 48000 --channel DE --bearing 6205"
    )


def _by_hand(job: Job) -> str:
    raise _missing(job, "anything: a person has to download it")


def _read_table(path: Path) -> list[dict[str, str | None]]:
    with path.open(encoding="utf-8-sig", newline="") as source:
        return [dict(row) for row in csv.DictReader(source)]


def _read_picture(path: Path) -> Bytes:
    from PIL import Image

    try:
        with Image.open(path) as picture:
            indexed = picture.mode in ("1", "L", "P")
            return np.asarray(picture if indexed else picture.convert("L"), dtype=np.uint8)
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise StorageError(
            f"{path.name} cannot be read as a picture ({error}). "
            "Delete the archive and download it again."
        ) from error


def _write_mask(out: Path, kind: str, stem: str, mask: npt.NDArray[np.bool_]) -> None:
    _write_png(_new(out / "ground_truth" / kind / f"{stem}_mask.png"), mask.astype(np.uint8) * 255)


def _write_png(path: Path, values: Bytes) -> None:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(values)).save(stream, "PNG")
    write_bytes(path, stream.getvalue())


def _new(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _existing(job: Job, path: Path) -> Path:
    if not path.is_file():
        raise _missing(job, path.relative_to(job.raw).as_posix())
    return path


def _missing(job: Job, what: str) -> StorageError:
    names = ", ".join(str(path) for path in job.files)
    return StorageError(
        f"{names} lacks {what}: it is not the archive that this set is made from, or it is "
        "incomplete. Delete it and run the same command again."
    )


LAYOUTS: Mapping[Layout, Callable[[Job], str]] = {
    "mvtec_ad": _arrange_mvtec_ad,
    "visa": _arrange_visa,
    "magnetic_tile": _arrange_magnetic_tile,
    "mnist": _arrange_mnist,
    "cifar10": _arrange_cifar10,
    "numpy_file": _arrange_numpy_file,
    "cwru": _arrange_cwru,
    "ls_powder_bed": _by_hand,
}
