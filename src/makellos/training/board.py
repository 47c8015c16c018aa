"""TensorBoard's event files, written at once: an error of the disk is seen where it happens."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.summary.writer.record_writer import RecordWriter
from torch import Tensor

__all__ = ["Board"]


class Board:
    """Write scalars and pictures by epoch; raises `OSError` when the disk says no."""

    def __init__(self, folder: Path, *, after: int) -> None:
        """Begin an event file; what others show of epochs later than `after` is forgotten."""
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns() // 1000:017d}.{os.getpid()}"
        self._file = (folder / name).open("wb")
        self._records = RecordWriter(self._file)
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        # TensorBoard takes a start at a step as word that a run was killed and resumed there.
        self._write(event_pb2.Event(file_version="brain.Event:2"))
        self._write(event_pb2.Event(step=after + 1, session_log=start))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def scalars(self, values: Mapping[str, float], epoch: int) -> None:
        """Write numbers by name."""
        made = [
            summary_pb2.Summary.Value(tag=name, simple_value=value)
            for name, value in values.items()
        ]
        self._write(event_pb2.Event(step=epoch, summary=summary_pb2.Summary(value=made)))
        self._file.flush()

    def picture(self, name: str, values: Tensor, epoch: int) -> None:
        """Write a picture C×H×W in [0, 1], gray or RGB."""
        pixels = np.ascontiguousarray((255 * values).round().byte().numpy().transpose(1, 2, 0))
        if pixels.shape[2] == 3:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        image = summary_pb2.Summary.Image(
            height=pixels.shape[0],
            width=pixels.shape[1],
            colorspace=values.shape[0],
            encoded_image_string=cv2.imencode(".png", pixels)[1].tobytes(),
        )
        value = summary_pb2.Summary.Value(tag=name, image=image)
        self._write(event_pb2.Event(step=epoch, summary=summary_pb2.Summary(value=[value])))
        self._file.flush()

    def _write(self, event: event_pb2.Event) -> None:
        event.wall_time = time.time()
        self._records.write(event.SerializeToString())
