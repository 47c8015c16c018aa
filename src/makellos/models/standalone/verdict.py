"""Inspect parts with an exported model: NumPy and ONNX Runtime, and Pillow to read picture files.

    python verdict.py PICTURE...     one line of JSON for each: verdict, score, p-value
    python verdict.py --check        the golden parts: do they get the verdicts of the release?

A picture is a PNG, JPEG, BMP, TIFF, WebP, PGM or PPM file, which Pillow reads, or an array saved by
NumPy (``.npy``): H x W or H x W x 1 (gray), H x W x 3 (RGB) or H x W x 4 (RGB and transparency,
which is dropped), uint8 or uint16. In a program of your own:

    model = Model(Path("folder"))
    finding = model.inspect(picture)

It exits with 0, with 1 where a picture cannot be read or the check fails, with 2 for wrong usage.
"""

from __future__ import annotations

import json
import math
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from makellos.models.standalone.beside import Background, without

Floats = NDArray[np.float32]
Steps = list[list[float]]  # scores (n,), ascending, and p-values (n + 1,) between them
Picture = NDArray[Any]  # H x W or H x W x 3, uint8 or uint16

FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")  # in Pillow's words; others are refused
ROUNDING = 1e-9  # of a budget, which a p-value may exceed


class UnreadableError(Exception):
    """Say why a picture allows no verdict."""


@dataclass
class Finding:
    """Hold what is said of a part: `verdict` is ok, look_again, reject or unreadable."""

    input: str
    verdict: str
    score: float | None = None
    p_value: float | None = None
    threshold: float | None = None
    probabilities: dict[str, float] | None = None
    error: str | None = None


class Model:
    """Score pictures with the graph of a folder, and judge them by its calibration."""

    def __init__(self, folder: Path) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # which is read at the import alone
        import onnxruntime

        onnxruntime.disable_telemetry_events()
        self.folder = folder
        self.facts: dict[str, Any] = json.loads((folder / "model.json").read_text("utf-8"))
        self.steps: Steps = self.facts["calibration"]["steps"]
        self.beside: Steps = self.facts["calibration"]["beside_steps"]
        rule = self.facts["background"]
        self.background = None if rule is None else Background(**rule)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            str(folder / "graph.onnx"), options, providers=["CPUExecutionProvider"]
        )
        self._names = [output.name for output in self._session.get_outputs()]

    def inspect(self, picture: Picture, name: str = "array") -> Finding:
        """Return the finding on a picture H x W or H x W x 3 (RGB), uint8 or uint16.

        Raises `UnreadableError` for another array.
        """
        batch = self.prepare(picture)
        outputs = self.run(batch)
        score, beside = self.score(outputs, batch)
        if not math.isfinite(score):
            return Finding(name, "unreadable", error=f"{name} has the score {score}.")
        p_value, calibration = _p_value(self.steps, score), self.facts["calibration"]
        verdict = "ok"
        if p_value <= calibration["look_again"] * (1 + ROUNDING):
            verdict = "look_again"
        if p_value <= calibration["false_alarms"] * (1 + ROUNDING):
            verdict = "reject"
        if verdict == "ok" and beside is not None and self.beside:
            budget = calibration["beside_false_alarms"] * (1 + ROUNDING)
            verdict = "look_again" if _p_value(self.beside, beside) <= budget else verdict
        shares = outputs.get("probabilities")
        return Finding(
            input=name,
            verdict=verdict,
            score=score,
            p_value=p_value,
            threshold=self.facts["calibration"]["threshold"],
            probabilities=None
            if shares is None
            else dict(zip(self.facts["classes"], map(float, shares[0]), strict=True)),
        )

    def inspect_file(self, path: Path) -> Finding:
        """Return the finding on a file; what cannot be read is ``unreadable``."""
        try:
            return self.inspect(read_picture(path), str(path))
        except (UnreadableError, OSError) as error:
            return Finding(str(path), "unreadable", error=f"{path}: {error}")

    def prepare(self, picture: Picture) -> Floats:
        """Return the batch 1 x C x H x W in [0, 1] that the graph takes of a picture."""
        wanted = self.facts["input"]
        channels = picture.shape[2:] if picture.ndim in (2, 3) else (0,)
        known = picture.dtype in (np.uint8, np.uint16) and channels in ((), (1,), (3,), (4,))
        if not known or not picture.size:
            raise UnreadableError(
                f"{picture.dtype} of shape {picture.shape}; expected uint8 or uint16, H x W, or "
                "H x W with 1, 3 or 4 channels."
            )
        if channels:
            picture = picture[..., 0] if channels == (1,) else picture[..., :3]
        resized = resize(picture, wanted["height"], wanted["width"])
        white = 255 if picture.dtype == np.uint8 else wanted["white_level"] or 65535
        if wanted["channels"] == 1 and resized.ndim == 3:
            resized = to_gray(resized)
        planes = [resized] if resized.ndim == 2 else [resized[..., i] for i in range(3)]
        chosen = [planes[min(i, len(planes) - 1)] for i in range(wanted["channels"])]
        scaled = np.stack(chosen).astype(np.float32) * np.float32(1.0 / white)
        batch: Floats = np.minimum(scaled, np.float32(1))[np.newaxis]
        return batch

    def run(self, batch: Floats) -> dict[str, Floats]:
        """Return the graph's outputs by name."""
        found = self._session.run(self._names, {self._session.get_inputs()[0].name: batch})
        return dict(zip(self._names, found, strict=True))

    def score(self, outputs: dict[str, Floats], batch: Floats) -> tuple[float, float | None]:
        """Return the score of a part, and the highest value beside it where that is looked for.

        If something lies loose near the oddest place, the picture is scored again without it.
        """
        if self.background is not None and "part" in outputs:
            anomaly_map, part = outputs["anomaly_map"][0], outputs["part"][0]
            counted, beside = self.background.apart(anomaly_map, part)
            loose = self.background.loose(counted, part, batch[0])
            if loose is not None:
                again = self.run(without(batch[0], loose)[np.newaxis])
                beside = self.background.with_loose(beside, anomaly_map, loose)
                maps = again["anomaly_map"][0], again["part"][0]
                counted, _ = self.background.apart(*maps, loose)
            looks = self.background.choice == "look_again"
            return self.aggregate(counted), float(beside.max()) if looks else None
        if "score" in outputs:
            return float(outputs["score"].reshape(-1)[0]), None
        return self.aggregate(outputs["anomaly_map"][0]), None

    def aggregate(self, anomaly_map: Floats) -> float:
        """Return the score of a map h x w."""
        rule, values = self.facts["aggregation"], anomaly_map.ravel()
        share = rule["parameter"]
        if rule["name"] == "quantile":
            score = float(np.quantile(values, share))
        elif rule["name"] == "top_k_mean":
            k = max(1, round(share * values.size))
            score = float(np.partition(values, -k)[-k:].mean())
        else:
            score = float(values.max())
        weight = rule["mean_weight"]
        return score + weight * float(values.mean(dtype=np.float64)) if weight else score

    def check(self) -> list[str]:
        """Return what is wrong with the golden parts, which lie in the folder; nothing if all well.

        They are kept at the size of the graph, with the scores that the model was released with.
        """
        wrong = []
        for golden in self.facts["golden"]:
            picture = np.load(self.folder / golden["file"], allow_pickle=False)
            batch = self.prepare(picture)
            score, _ = self.score(self.run(batch), batch)
            limit = self.facts["calibration"]["threshold"]
            if not math.isfinite(score) or (score > limit) != (golden["score"] > limit):
                wrong.append(f"{golden['file']}: score {score:.5g}, expected {golden['score']:.5g}")
        return wrong


def _p_value(steps: Steps, score: float) -> float:
    """Return the conformal p-value of a score: `steps` are where it changes, and what it is."""
    limits, p_values = steps
    return p_values[int(np.searchsorted(limits, score, side="left"))]


def read_picture(path: Path) -> Picture:
    """Return the pixels of a file: H x W (gray) or H x W x 3 (RGB), uint8 or uint16 as stored.

    The orientation that a camera noted is applied, transparency is dropped, palettes are resolved.
    """
    if path.suffix.lower() == ".npy":
        try:
            with path.open("rb") as stream:
                return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
        except (ValueError, EOFError, MemoryError) as error:
            raise UnreadableError(f"no array that NumPy saved ({error}).") from error
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path, formats=FORMATS) as opened:
            return _pixels(opened)
    except UnidentifiedImageError as error:
        raise UnreadableError("no PNG, JPEG, BMP, TIFF, WebP, PGM or PPM picture.") from error
    except (UnreadableError, OSError):
        raise
    except Exception as error:
        # Decoders have errors of many kinds; none may stop the other parts.
        why = str(error) or type(error).__name__
        raise UnreadableError(f"no picture that can be read ({why}).") from error


def _pixels(opened: Any) -> Picture:
    """Return the pixels of a file that Pillow opened; refuse what it decodes to other values."""
    from PIL import ImageOps

    packed = opened.tile[0].args if opened.tile else ""
    raw = packed if isinstance(packed, str) else str(packed[0])
    deep, advice = opened.mode.startswith("I"), "save it with NumPy as .npy instead."
    if opened.format == "PPM" and not isinstance(packed, str):
        if packed[1] != 255 and (not deep or packed[1] != 65535):
            raise UnreadableError(f"colours of 16 bits, or white is {packed[1]}; {advice}")
    elif deep and not raw.startswith("I;16"):
        raise UnreadableError(f"gray of {raw}, expected 8 or 16 bits; {advice}")
    if ";16" in raw and not deep:
        raise UnreadableError(f"colours of 16 bits; {advice}")
    if opened.format == "TIFF":
        tags = opened.tag_v2
        if (deep and tags.get(262) == 0) or (tags.get(284) == 2 and tags.get(277, 1) > 1):
            raise UnreadableError(f"a TIFF with white as 0, or stored plane by plane; {advice}")
    image = ImageOps.exif_transpose(opened)
    if deep:
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))
    if image.mode in ("P", "RGB", "RGBA"):
        return np.asarray(image.convert("RGB"))
    if image.mode == "CMYK" and opened.format in ("JPEG", "TIFF"):
        ink, black = np.split(np.asarray(image).astype(np.int64), [3], axis=2)
        white = 255 - black
        if opened.format == "TIFF":
            return np.asarray((255 - ink) * white // 255, np.uint8)
        return np.asarray(white - (ink * white >> 8), np.uint8)
    raise UnreadableError(f"mode {image.mode}; expected gray or RGB.")


def resize(picture: Picture, height: int, width: int) -> Picture:
    """Stretch a picture: axes that shrink by area averages, then axes that grow bilinearly."""
    rows, columns = min(height, picture.shape[0]), min(width, picture.shape[1])
    smaller = _shrunk(picture, rows, columns)
    return smaller if (rows, columns) == (height, width) else _grown(smaller, height, width)


def _shrunk(picture: Picture, height: int, width: int) -> Picture:
    if picture.shape[:2] == (height, width):
        return picture
    values = np.tensordot(_areas(picture.shape[0], height), picture.astype(np.float64), axes=1)
    values = np.moveaxis(np.tensordot(_areas(picture.shape[1], width), values, axes=(1, 1)), 0, 1)
    # Sums of weights that are no binary fractions may miss a half by a rounding error.
    values = np.round(values, 6)
    if picture.shape[:2] == (2 * height, 2 * width):
        return np.asarray(np.floor(values + 0.5), picture.dtype)
    return np.asarray(np.rint(values), picture.dtype)


def _areas(n: int, m: int) -> NDArray[np.float64]:
    """Return which share of each of m equal pieces of n pixels is which pixel, m x n."""
    ends, pixels = np.arange(m + 1) * n / m, np.arange(n)
    covered = np.minimum(ends[1:, None], pixels + 1) - np.maximum(ends[:-1, None], pixels)
    shares: NDArray[np.float64] = np.clip(covered, 0, None) * (m / n)
    return shares


def _grown(picture: Picture, height: int, width: int) -> Picture:
    """Return a picture with lines between the centres of its pixels; 8 bits in whole numbers."""
    (top, bottom, down), (left, right, across) = (
        _neighbours(n, m) for n, m in zip(picture.shape, (height, width), strict=False)
    )
    down = down.reshape(-1, *[1] * (picture.ndim - 1))
    across = across.reshape(-1, *[1] * (picture.ndim - 2))
    if picture.dtype == np.uint8:
        values = picture.astype(np.int64)
        down, across = np.rint(down * 2048).astype(int), np.rint(across * 2048).astype(int)
        lines = values[:, left] * (2048 - across) + values[:, right] * across >> 4
        halves = ((2048 - down) * lines[top] >> 16) + (down * lines[bottom] >> 16)
        return np.asarray(halves + 2 >> 2, np.uint8)
    lines = picture[:, left] * (1 - across) + picture[:, right] * across
    return np.asarray(np.rint(lines[top] * (1 - down) + lines[bottom] * down), picture.dtype)


def _neighbours(n: int, m: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return of m places the pixels of n before and behind, and how near the second is."""
    places = (np.arange(m) + 0.5) * (n / m) - 0.5
    first = np.floor(places).astype(int)
    return np.clip(first, 0, n - 1), np.clip(first + 1, 0, n - 1), places - first


def to_gray(picture: Picture) -> Picture:
    """Return a picture H x W x 3 (RGB) in gray, by the weights of television."""
    weights = np.array([9798, 19235, 3735], np.int64)  # of 2**15
    return np.asarray(picture.astype(np.int64) @ weights + (1 << 14) >> 15, picture.dtype)


def main(arguments: list[str]) -> int:
    """Inspect the files that the arguments name, or check the folder; return the exit code."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(__doc__ or "")
        return 0 if arguments else 2
    model = Model(Path(__file__).resolve().parent)
    if arguments == ["--check"]:
        wrong = model.check()
        n = len(model.facts["golden"])
        sys.stdout.write("\n".join(wrong or [f"All {n} golden parts have their verdicts."]) + "\n")
        return 1 if wrong else 0
    findings = (model.inspect_file(Path(each)) for each in arguments)
    code = 0
    for finding in findings:
        sys.stdout.write(json.dumps(asdict(finding)) + "\n")
        code = code or int(finding.error is not None)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
