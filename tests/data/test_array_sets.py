"""Sets in NumPy files: as they are passed around, and what is wrong with others."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from makellos import find_parts
from makellos.data.layouts import list_parts
from makellos.data.numpy_files import stored_arrays
from makellos.errors import ConfigurationError, InputError

RNG = np.random.default_rng(0)


def pictures(n: int, *shape: int) -> Any:
    return RNG.integers(0, 256, (n, *shape), dtype=np.uint8)


def digits(n: int) -> Any:
    return np.arange(n) % 10


def saved(path: Path, **arrays: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)
    return path


def counted(found: Any) -> Counter[tuple[str | None, str]]:
    return Counter((part.split, part.label) for part in found)


def test_digits_as_keras_saves_them(tmp_path: Path) -> None:
    x, y = pictures(30, 28, 28), digits(30)
    path = saved(
        tmp_path / "mnist.npz", x_train=x, y_train=y.astype(np.uint8), x_test=x[:10], y_test=y[:10]
    )
    found = find_parts(path, good="0")
    assert counted(found)["train", "good"] == 3
    assert counted(found)["test", "9"] == 1
    assert [part.name for part in found][30:32] == ["mnist.npz#x_test/0", "mnist.npz#x_test/1"]
    assert all((part.read() == x[i % 30]).all() for i, part in enumerate(found))
    assert found.notes == ("Read as good: 0.",)
    assert len(found.good()) == 3 and len(found.test()) == 10


@pytest.mark.parametrize(
    "names",
    [
        ("train_images", "train_labels", "val_images", "val_labels", "test_images", "test_labels"),
        ("X_train", "Y_train", "X_val", "Y_val", "X_test", "Y_test"),
        ("trainX", "trainY", "valX", "valY", "testX", "testY"),
        ("xtrain", "ytrain", "xvalid", "yvalid", "xtest", "ytest"),
        ("TrainImages", "TrainLabels", "ValImages", "ValLabels", "TestImages", "TestLabels"),
    ],
)
def test_names_that_are_in_use(names: Sequence[str], tmp_path: Path) -> None:
    arrays: dict[str, Any] = {}
    for n, images, labels in zip((6, 4, 5), names[::2], names[1::2], strict=True):
        arrays |= {images: pictures(n, 8, 8, 3), labels: digits(n)[:, None]}  # as MedMNIST has them
    found = find_parts(saved(tmp_path / "a.npz", **arrays), good=["0"])
    assert Counter(part.split for part in found) == {"train": 6, "val": 4, "test": 5}
    assert [part.label for part in found][:3] == ["good", "1", "2"]


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_one_array_of_each(suffix: str, tmp_path: Path) -> None:
    images, labels = pictures(5, 9, 8), digits(5)
    if suffix == ".npz":
        data = saved(tmp_path / "set.npz", images=images, labels=labels)
        first = "set.npz#0"
    else:
        data, first = tmp_path / "set", "images.npy#0"
        data.mkdir()
        np.save(data / "images.npy", images)
        np.save(data / "labels.npy", labels)
    found = find_parts(data, good="3")
    assert found.parts[0].name == first
    assert [part.label for part in found] == ["0", "1", "2", "good", "4"]
    assert [part.split for part in found] == [None] * 5
    assert (found.parts[4].read() == images[4]).all()


def test_folders_of_arrays_as_mnist_c_has_them(tmp_path: Path) -> None:
    for kind in ("identity", "fog"):
        (tmp_path / kind).mkdir()
        for split, n in (("train", 6), ("test", 4)):
            np.save(tmp_path / kind / f"{split}_images.npy", pictures(n, 8, 8, 1))
            np.save(tmp_path / kind / f"{split}_labels.npy", digits(n) + (kind == "fog"))
    found = find_parts(tmp_path, good="0")
    by_name = {part.name: part for part in found}
    assert len(by_name) == 20
    assert by_name["identity/test_images.npy#0"].is_good
    assert by_name["fog/test_images.npy#0"].label == "1"  # labels of the folder that they are in
    assert by_name["fog/train_images.npy#0"].read().shape == (8, 8)
    assert len(find_parts(tmp_path / "fog", good="1").test()) == 4


def test_pictures_without_names(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, pictures(4, 8, 8), np.array(["ok", "ok", "dent", "ok"]))
    found = find_parts(path)
    assert [part.label for part in found] == ["good", "good", "dent", "good"]


def test_labels_with_names_and_by_what_the_file_says(tmp_path: Path) -> None:
    names = np.array(["airplane", "automobile", "bird"])
    path = saved(
        tmp_path / "a.npz",
        train=pictures(4, 32, 32, 3),
        test=pictures(3, 32, 32, 3),
        test_labels=[1, 0, 2],
        label_names=names,
    )
    found = find_parts(path, good="Automobile")
    assert [part.label for part in found] == ["good"] * 5 + ["airplane", "bird"]
    assert "train has no labels: all 4 pictures are good." in found.notes
    for key, values, expected in (
        ("is_anomaly", [0, 1, 1], ["good", "defective", "defective"]),
        ("good_labels", [True, False, True], ["good", "defective", "good"]),
        ("labels", [0, 1, 1], ["0", "1", "1"]),  # nobody says which of them is good
        ("y", np.eye(3)[[2, 0, 1]], ["2", "0", "1"]),
        ("labels", [0.0, 2.0, 1.0], ["0", "2", "1"]),
        ("labels", np.array([b"ok", b"dent", b"NOK"]), ["good", "dent", "NOK"]),
    ):
        path = saved(tmp_path / "b.npz", images=pictures(3, 8, 8), **{key: values})
        keys = f"labels={key}"
        assert [part.label for part in find_parts(path, keys=keys)] == expected, key


def test_keys_that_a_user_names(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "a.npz",
        one=pictures(4, 8, 8),
        other=pictures(4, 8, 8),
        kinds=digits(4),
        lot=[1, 1, 2, 2],
        weights=digits(4),
    )
    found = find_parts(path, keys={"images": "other", "labels": "kinds"}, good="1")
    assert {part.name.partition("/")[0] for part in found} == {"a.npz#other"}
    assert [part.label for part in found] == ["0", "good", "2", "3"]
    assert [part.group for part in found] == ["1", "1", "2", "2"]
    with pytest.raises(InputError, match=r"'kind', which is not an array here\. Did you mean"):
        find_parts(path, keys="images=one,labels=kind")
    with pytest.raises(ConfigurationError, match="--keys takes ROLE=ARRAY with the roles images"):
        find_parts(path, keys="pictures=one")
    with pytest.raises(InputError, match="does not exist"):
        find_parts(tmp_path / "nowhere", keys="images=one")
    path.rename(path.with_suffix(".png"))
    with pytest.raises(ConfigurationError, match="names arrays of NumPy files"):
        find_parts(tmp_path, keys="images=one")
    both = saved(tmp_path / "b.npz", images=pictures(3, 8, 8), labels=digits(3), y=digits(3))
    with pytest.raises(InputError, match=r"labels, y could be the labels of images\. Say which"):
        find_parts(both)
    assert len(find_parts(both, keys="images=images,labels=y")) == 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[[0, 255], [1, 2]]], np.int64), np.uint8),
        (np.array([[[0, 4000], [1, 2]]], np.int32), np.uint16),
        (np.array([[[0, 255], [1, 2]]], np.float64), np.uint8),
        (np.array([[[0, 1], [0.2, 0]]], np.float32), np.uint8),
        (np.array([[[True, False], [True, True]]]), np.uint8),
        (np.array([[[0, 65535], [1, 2]]], np.uint16), np.uint16),
        (np.array([[[0, 255], [1, 2]]], ">u2"), np.uint16),
    ],
)
def test_numbers_become_pictures(values: Any, expected: type, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", values)
    (part,) = find_parts(tmp_path / "x.npy")
    picture = part.read()
    assert picture.dtype == expected
    white = values.max() if values.dtype.kind == "f" or values.dtype.kind == "b" else None
    if white is not None:
        assert np.abs(picture / 255 - values[0] / float(white)).max() < 1 / 500
    else:
        assert (picture == values[0]).all()


def test_colours_first_and_last_are_the_same_pictures(tmp_path: Path) -> None:
    last = pictures(5, 6, 7, 3)
    np.savez(tmp_path / "last.npz", images=last)
    np.savez(tmp_path / "first.npz", images=last.transpose(0, 3, 1, 2))
    np.savez(tmp_path / "fortran.npz", images=np.asfortranarray(last))
    for name in ("last", "first", "fortran"):
        found = find_parts(tmp_path / f"{name}.npz")
        assert all((part.read() == last[i]).all() for i, part in enumerate(found)), name
    np.save(tmp_path / "one.npy", last[0])  # one picture is one, and no set of six
    (part,) = find_parts(tmp_path / "one.npy")
    assert (part.read() == last[0]).all()


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x": np.zeros((9, 784), np.uint8)}, r"reshape\(-1, 28, 28\)"),
        ({"data": np.zeros((9, 3072), np.uint8)}, r"reshape\(-1, 3, 32, 32\)"),
        ({"x": np.zeros((32, 32, 3, 9), np.uint8)}, r"transpose\(3, 0, 1, 2\)"),
        ({"x": np.zeros((9, 8, 8, 8), np.uint8)}, "no axis holds 1, 3 or 4 colours"),
        ({"DE": np.zeros(900)}, "DE: 900 float64.*give the folder"),
        ({"x": np.zeros((3, 8, 8)), "y": np.zeros(2)}, "y has 2 entries for the 3 pictures of x"),
        ({"x": np.zeros((3, 8, 8)), "y": np.eye(4)[:3] + 1}, "does not have one label"),
        ({"x": np.zeros((3, 8, 8)), "y": np.ones((3, 4))}, "several labels or none"),
        ({"x": np.zeros((3, 8, 8)), "y": [0.5, 1, 2]}, "holds 0.5; expected labels"),
        ({"x": np.zeros((2, 8, 8)), "y": np.array(["a", None], object)}, "dtype=str"),
        ({"x": np.array([None], object)}, "never loaded.*np.stack"),
        ({}, "holds no pictures: no arrays"),
    ],
)
def test_what_is_no_set_is_refused(arrays: dict[str, Any], told: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(InputError, match=told):
        find_parts(path)


def test_values_that_are_no_brightness(tmp_path: Path) -> None:
    scaled = np.linspace(-1, 1, 3 * 64).reshape(3, 8, 8)
    np.save(tmp_path / "scaled.npy", scaled)
    for part in find_parts(tmp_path / "scaled.npy"):
        with pytest.raises(InputError, match=r"from -1 to 1.*Save \(pictures \+ 1\) / 2"):
            part.read()
    unit = np.abs(scaled)
    unit[1, 0, 0] = np.nan
    np.save(tmp_path / "nan.npy", unit)
    good, bad, _ = find_parts(tmp_path / "nan.npy")
    assert good.read().dtype == np.uint16
    with pytest.raises(InputError, match=r"Picture 1 of nan\.npy.*not finite"):
        bad.read()


def test_unknown_good_label(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.npz", images=pictures(3, 8, 8), labels=digits(3))
    with pytest.raises(InputError, match="no parts with the label 'ok', which --good names"):
        find_parts(path, good="ok")
    with pytest.raises(InputError, match="If a label means good, say which: --good 0"):
        find_parts(path).require_good()


def test_folders_of_classes_know_a_good_one_too(tmp_path: Path) -> None:
    import cv2

    for name in "01":
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), pictures(1, 8, 8)[0])
    assert [part.label for part in find_parts(tmp_path, good="1")] == ["0", "good"]


def test_recordings_stay_recordings(tmp_path: Path) -> None:
    saved(tmp_path / "a.npz", DE=np.zeros(4000), rate=12000.0)
    np.save(tmp_path / "b.npy", np.zeros((2, 4000)))
    assert find_parts(tmp_path).kind.noun == "recording"


def test_pictures_in_files_go_before_arrays(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "a.png"), pictures(1, 8, 8)[0])
    np.save(tmp_path / "embeddings.npy", pictures(5, 8, 8))
    assert [part.name for part in find_parts(tmp_path)] == ["a.png"]


def test_large_arrays_are_mapped_and_small_ones_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures(5, 8, 8, 3)
    monkeypatch.setattr("makellos.data.numpy_files._SMALL", 100)
    np.savez(tmp_path / "a.npz", images=images, labels=digits(5))
    np.save(tmp_path / "b.npy", images)
    for name in ("a.npz", "b.npy"):
        array = next(iter(stored_arrays(tmp_path / name).values()))
        assert isinstance(array.values(), np.memmap), name
        assert (array.values() == images).all()
    monkeypatch.undo()
    path = tmp_path / "c.npz"
    np.savez(path, images=images)
    content = path.read_bytes()
    place = content.index(images.tobytes()[:50]) + 60
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(InputError, match="CRC"):
        find_parts(path).parts[0].read()


def test_sizes_that_are_not_there_take_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
    header += b"{'descr': '|u1', 'fortran_order': False, 'shape': (9000000, 900, 900)}".ljust(118)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", header + b"\0" * 10)
    with pytest.raises(InputError, match="should have 7,290,000,000,000 bytes, 10 are there"):
        find_parts(path)
    (tmp_path / "b.npy").write_bytes(header + b"\0" * 10)
    with pytest.raises(InputError, match="cut short"):
        find_parts(tmp_path / "b.npy")
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(InputError, match="cannot be read as a NumPy file"):
        find_parts(tmp_path / "c.npz")


def test_a_manifest_names_pictures_in_arrays(tmp_path: Path) -> None:
    images = pictures(4, 8, 8)
    saved(tmp_path / "sub" / "mnist.npz", x_train=images, x_test=images[:2])
    saved(tmp_path / "one#1.npz", images=images, labels=digits(4))
    manifest = tmp_path / "parts.csv"
    manifest.write_text(
        "path,label\nsub/mnist.npz#x_train/3,good\nsub\\mnist.npz#x_test/1,7\none#1.npz#2,good\n",
        encoding="utf-8",
    )
    found = list_parts(manifest)
    assert [part.name for part in found] == [
        "sub/mnist.npz#x_train/3",
        "sub/mnist.npz#x_test/1",
        "one#1.npz#2",
    ]
    assert [int(part.read()[0, 0]) for part in found] == [int(images[i][0, 0]) for i in (3, 1, 2)]
    for cell, told in (
        ("sub/mnist.npz#x_train/4", "has 4 pictures, counted from 0; there is no number 4"),
        ("sub/mnist.npz#3", "does not exist"),  # of which array?
        ("sub/mnist.npz#x_train/3,good\nsub/mnist.npz#x_train/3", "listed in line 2 already"),
    ):
        manifest.write_text(f"path,label\n{cell},good\n", encoding="utf-8")
        with pytest.raises(InputError, match=told):
            list_parts(manifest)
