"""Synthetic screws: the same every time, damaged only where the mask says, on disk as MVTec AD."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from makellos.errors import InputError, StorageError
from makellos.sets.synthetic_geometry import draw_screw, trace
from makellos.sets.synthetic_screws import DEFECTS, render_screw, write_screws
from makellos.sets.synthetic_shading import draw_scene

SIZE = 160
# the part of the axis (0 at the face of the head, 1 at the tip) in which the damage must lie
PLACES = {
    "scratch_head": (-0.05, 0.24),
    "scratch_neck": (0.10, 0.55),
    "thread_side": (0.40, 1.05),
    "thread_top": (0.40, 1.05),
    "manipulated_front": (0.70, 1.05),
}


def dark(picture: np.ndarray) -> np.ndarray:
    return cv2.medianBlur(picture, 3) < 135


def grown(mask: np.ndarray, pixels: int) -> np.ndarray:
    kernel = np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)
    return cv2.dilate(mask.astype(np.uint8), kernel) > 0


def axis_place(mask: np.ndarray, seed: int) -> np.ndarray:
    """Return for each pixel of the mask how far along the screw it is."""
    pose = draw_scene(np.random.default_rng([seed, 2]), len(mask)).pose
    row, column = np.nonzero(mask)
    x = (column + 0.5) / len(mask) - pose.centre[0]
    y = (row + 0.5) / len(mask) - pose.centre[1]
    return (x * np.cos(pose.angle) + y * np.sin(pose.angle)) / pose.length + 0.5


def axis_angle(picture: np.ndarray) -> float:
    points = np.argwhere(dark(picture)).astype(float)
    _, vectors = np.linalg.eigh(np.cov(points.T))
    return float(np.arctan2(vectors[0, 1], vectors[1, 1]) % np.pi)


def test_names_of_the_defects():
    assert set(DEFECTS) == set(PLACES)


@pytest.mark.parametrize("defect", [None, *DEFECTS])
def test_same_arguments_give_same_pixels(defect):
    first = render_screw(seed=11, size=SIZE, defect=defect)
    again = render_screw(seed=11, size=SIZE, defect=defect)
    assert np.array_equal(first.picture, again.picture)
    assert np.array_equal(first.mask, again.mask)
    assert first.defect == defect


@pytest.mark.parametrize("size", [64, 97, 320])
def test_good_screw_has_an_empty_mask(size):
    screw = render_screw(seed=3, size=size)
    assert screw.picture.shape == screw.mask.shape == (size, size)
    assert screw.picture.dtype == np.uint8
    assert screw.mask.dtype == np.bool_
    assert not screw.mask.any()
    assert screw.defect is None


@pytest.mark.parametrize("seed", range(8))
def test_a_dark_screw_lies_whole_on_a_light_table(seed):
    picture = render_screw(seed=seed, size=SIZE).picture
    screw = dark(picture)
    border = np.concatenate([screw[0], screw[-1], screw[:, 0], screw[:, -1]])
    assert not border.any()
    assert 0.06 < screw.mean() < 0.20
    assert np.median(picture[~grown(screw, 12)]) > 170
    (_, extent, _) = cv2.minAreaRect(np.argwhere(screw).astype(np.float32))
    # nothing of the head or the tip is missing
    assert 0.80 < max(extent) / SIZE < 0.92
    assert 0.22 < min(extent) / SIZE < 0.30


def test_the_thread_is_a_helix():
    screw = draw_screw(np.random.default_rng(0))
    along = np.linspace(0.52, 0.76, 481, dtype=np.float32)
    across = np.linspace(-0.09, 0.09, 361, dtype=np.float32)
    x, y = np.meshgrid(along, across)
    hits = trace(screw, 0.0, x.ravel(), y.ravel())
    seen = hits.seen.reshape(x.shape)
    edges = np.where(seen, y, 0)
    crests = []
    for edge in (edges.max(axis=0), -edges.min(axis=0)):
        ridge = edge > edge.min() + 0.8 * (edge.max() - edge.min())
        starts = np.flatnonzero(np.diff(ridge.astype(int)) == 1)
        crests.append(along[starts])
    for starts in crests:
        assert np.allclose(np.diff(starts), screw.pitch, atol=0.004)
    # one side's crests lie half a turn from the other's
    offset = (crests[0][0] - crests[1][0]) / screw.pitch % 1
    assert abs(offset - 0.5) < 0.1
    assert np.allclose(np.linalg.norm(hits.normal, axis=0), 1, atol=1e-4)


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("seed", range(4))
def test_a_defect_changes_the_picture_in_its_mask_and_shadow_alone(defect, seed):
    good = render_screw(seed=seed, size=SIZE).picture.astype(int)
    bad = render_screw(seed=seed, size=SIZE, defect=defect)
    change = np.abs(bad.picture - good)
    outside = ~grown(bad.mask, 4)
    on_the_screw = outside & ~grown(~dark(good.astype(np.uint8)), 1)
    if defect.startswith("scratch"):
        assert not change[outside].any()
    # the shadow of what is gone or bent: soft, near and hardly on the screw itself
    assert change[outside].max() <= 20
    assert change[on_the_screw].max() <= 4
    assert change[~grown(bad.mask, SIZE // 3)].max() <= 1
    assert change[bad.mask].mean() > 8
    # what differs clearly is in the mask, up to crumbs
    assert (change[~bad.mask] > 20).sum() <= 0.25 * bad.mask.sum() + 3


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("seed", range(4))
def test_the_mask_lies_where_the_defect_belongs(defect, seed):
    good = render_screw(seed=seed, size=SIZE)
    bad = render_screw(seed=seed, size=SIZE, defect=defect)
    assert 0 < bad.mask.mean() < 0.05
    screw = grown(dark(good.picture) | dark(bad.picture), 2)
    hull = cv2.convexHull(np.argwhere(screw)[:, ::-1].astype(np.int32))
    inside = cv2.fillConvexPoly(np.zeros((SIZE, SIZE), np.uint8), hull, 1) > 0
    assert not (bad.mask & ~inside).any()
    place = axis_place(bad.mask, seed)
    low, high = PLACES[defect]
    assert low < place.min()
    assert place.max() < high


@pytest.mark.parametrize("defect", DEFECTS)
def test_small_pictures_keep_their_defects(defect):
    for seed in range(100, 112):
        assert render_screw(seed=seed, size=64, defect=defect).mask.sum() >= 2


def test_defects_vary_from_seed_to_seed():
    for defect in DEFECTS:
        areas = {int(render_screw(seed=s, size=SIZE, defect=defect).mask.sum()) for s in range(5)}
        assert len(areas) > 2


def test_seeds_turn_the_screw():
    angles = np.array([axis_angle(render_screw(seed=s, size=SIZE).picture) for s in range(12)])
    gaps = np.abs(angles[:, None] - angles[None, :])
    gaps = np.minimum(gaps, np.pi - gaps)
    assert gaps.max() > np.deg2rad(60)
    assert np.median(gaps) > np.deg2rad(15)


@pytest.mark.parametrize("size", [63, 2049, 0, -5])
def test_sizes_outside_the_range_are_refused(size, tmp_path):
    with pytest.raises(InputError, match=f"{size}.*64 to 2048"):
        render_screw(seed=0, size=size)
    with pytest.raises(InputError, match="64 to 2048"):
        write_screws(tmp_path / "set", size=size)
    assert not (tmp_path / "set").exists()


def test_an_unknown_defect_is_refused_with_a_suggestion():
    with pytest.raises(InputError, match=r"'scratch_hed'.*Did you mean 'scratch_head'\?"):
        render_screw(seed=0, size=64, defect="scratch_hed")


def test_a_negative_seed_is_refused():
    with pytest.raises(InputError, match="-1"):
        render_screw(seed=-1, size=64)


def small_set(folder: Path, seed: int = 5, **more) -> None:
    write_screws(folder, n_train=3, n_test_good=2, n_per_defect=1, size=64, seed=seed, **more)


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(p for p in folder.rglob("*") if p.is_file())
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


def test_the_set_has_the_mvtec_ad_layout(tmp_path):
    calls: list[tuple[str, int, int | None]] = []
    folder = tmp_path / "new" / "screws"
    small_set(folder, progress=lambda *step: calls.append(step))
    expected = {"README.txt", *(f"train/good/{i:03d}.png" for i in range(3))}
    expected |= {"test/good/000.png", "test/good/001.png"}
    expected |= {f"test/{d}/000.png" for d in DEFECTS}
    expected |= {f"ground_truth/{d}/000_mask.png" for d in DEFECTS}
    assert set(contents(folder)) == expected
    assert calls == [("rendering screws", i + 1, 10) for i in range(10)]
    readme = (folder / "README.txt").read_text(encoding="utf-8")
    assert "ynthetic" in readme
    assert "Seed: 5" in readme
    for defect in DEFECTS:
        mask = cv2.imread(str(folder / "ground_truth" / defect / "000_mask.png"), -1)
        picture = cv2.imread(str(folder / "test" / defect / "000.png"), -1)
        assert mask.shape == picture.shape == (64, 64)
        assert set(np.unique(mask)) == {0, 255}


def test_the_seed_of_a_set_decides_all_its_pictures(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        small_set(tmp_path / name, seed)
    first, again, other = (contents(tmp_path / name) for name in "abc")
    assert first == again
    pictures = [
        x[name] for x in (first, other) for name in x if name.split("/")[0] != "ground_truth"
    ]
    assert len(set(pictures)) == len(pictures)


def test_an_empty_folder_is_filled(tmp_path):
    write_screws(tmp_path, n_train=1, n_test_good=0, n_per_defect=0, size=64)
    assert set(contents(tmp_path)) == {"README.txt", "train/good/000.png"}


def test_a_folder_in_use_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=r"not empty.*-o"):
        small_set(tmp_path)
    with pytest.raises(InputError, match=r"is a file.*-o"):
        small_set(tmp_path / "notes.txt")
    assert contents(tmp_path) == {"notes.txt": b"mine"}


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(StorageError, match="could not be written"):
        small_set(tmp_path / "file" / "screws")


@pytest.mark.parametrize("count", ["n_train", "n_test_good", "n_per_defect"])
def test_negative_counts_are_refused(count, tmp_path):
    with pytest.raises(InputError, match=f"{count} is -1"):
        write_screws(tmp_path / "set", **{count: -1})
    assert not (tmp_path / "set").exists()


def test_aligned_screws_lie_all_alike() -> None:
    dark = [render_screw(seed=seed, size=96, aligned=True).picture < 120 for seed in range(6)]
    level = [mask.any(1).sum() < 0.4 * mask.any(0).sum() for mask in dark]
    assert all(level)
    middles = np.array([np.argwhere(mask).mean(0) for mask in dark])
    assert np.ptp(middles, axis=0).max() < 0.03 * 96
    free = [render_screw(seed=seed, size=96).picture < 120 for seed in range(6)]
    assert not all(mask.any(1).sum() < 0.4 * mask.any(0).sum() for mask in free)
