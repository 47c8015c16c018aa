"""Windows stand where they should, share no memory twice, and pieces share no window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from makellos.errors import ConfigurationError, InputError
from makellos.vibration.windows import cut, split_in_time, window_starts


@given(n=st.integers(0, 400), window=st.integers(16, 80), hop=st.integers(1, 100))
def test_windows_are_all_that_fit(n: int, window: int, hop: int) -> None:
    signal = np.arange(n, dtype=np.float32)
    starts = window_starts(n, window, hop)
    expected = [start for start in range(0, n, hop) if start + window <= n]
    assert starts.dtype == np.intp
    assert starts.tolist() == expected
    windows = cut(signal, window, hop)
    assert windows.shape == (len(expected), window)
    for row, start in zip(windows, expected, strict=True):
        assert np.array_equal(row, signal[start : start + window])


def test_cut_is_a_read_only_view() -> None:
    signal = np.zeros(100, np.float32)
    windows = cut(signal, 32, 8)
    assert np.shares_memory(windows, signal)
    assert windows.dtype == np.float32
    signal[8] = 5
    assert windows[0, 8] == windows[1, 0] == 5
    with pytest.raises(ValueError, match="read-only"):
        windows[0, 0] = 1


def test_cut_takes_one_channel() -> None:
    with pytest.raises(InputError, match=r"\(2, 100\).*channel"):
        cut(np.zeros((2, 100)), 16, 16)


@given(
    n=st.integers(400, 5000),
    parts=st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_pieces_hold_every_sample_once(n: int, parts: list[int]) -> None:
    shares = [part / sum(parts) for part in parts]
    pieces = split_in_time(n, shares, window=16)
    assert len(pieces) == len(shares)
    assert [i for piece in pieces for i in range(n)[piece]] == list(range(n))
    for piece, share in zip(pieces, shares, strict=True):
        assert abs(piece.stop - piece.start - n * share) <= 1


def test_no_sample_lies_in_windows_of_two_pieces() -> None:
    signal = np.arange(1003.0)
    seen = [
        set(cut(signal[piece], 64, 16).ravel()) for piece in split_in_time(1003, [0.5, 0.5], 64)
    ]
    assert seen[0]
    assert seen[1]
    assert not seen[0] & seen[1]


@pytest.mark.parametrize("shares", [[0.5, 0.4], [1.2, -0.2], [1.0, 0.0], [], [float("nan"), 1]])
def test_shares_must_be_a_whole(shares: list[float]) -> None:
    with pytest.raises(ConfigurationError, match="sum to 1"):
        split_in_time(1000, shares, 64)


def test_a_piece_without_a_window_is_refused() -> None:
    assert split_in_time(640, [0.9, 0.1], 64)[1] == slice(576, 640)
    with pytest.raises(InputError, match="piece of 63, less than one window of 64"):
        split_in_time(630, [0.9, 0.1], 64)


@pytest.mark.parametrize("window", [-1, 0, 15])
def test_windows_have_16_samples(window: int) -> None:
    message = f"The window is {window} samples"
    with pytest.raises(ConfigurationError, match=message):
        window_starts(100, window, 1)
    with pytest.raises(ConfigurationError, match=message):
        cut(np.zeros(100), window, 1)
    with pytest.raises(ConfigurationError, match=message):
        split_in_time(100, [1.0], window)


@pytest.mark.parametrize("hop", [-3, 0])
def test_hop_is_at_least_one(hop: int) -> None:
    with pytest.raises(ConfigurationError, match=f"The hop is {hop}"):
        window_starts(100, 16, hop)
    with pytest.raises(ConfigurationError, match=f"The hop is {hop}"):
        cut(np.zeros(100), 16, hop)
