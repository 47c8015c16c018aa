"""The gallery: what is worst comes first, once, and within limits."""

from __future__ import annotations

import base64

import pytest

from makellos.reports import gallery


def names(section):
    return [card.item.input for card in section.cards]


@pytest.mark.parametrize(
    ("extension", "kind"), [(".png", "image/png"), (".jpg", "image/jpeg"), (".webp", "image/webp")]
)
def test_the_type_of_a_picture_is_told_by_its_first_bytes(picture, extension, kind):
    data = picture(extension)
    assert gallery.picture_type(data) == kind
    head, _, body = gallery.data_uri(data).partition(",")
    assert head == f"data:{kind};base64"
    assert base64.b64decode(body) == data


@pytest.mark.parametrize("data", [b"", b"RIFF", b"RIFF0000WAVE", b"<svg onload=x>", b"GIF89a"])
def test_what_is_no_known_picture_is_not_embedded(data):
    assert gallery.picture_type(data) is None
    assert gallery.data_uri(data) == ""


@pytest.mark.parametrize(
    ("label", "verdict", "expected"),
    [
        ("good", "ok", "right"),
        ("good", "reject", "wrong"),
        ("good", "look_again", "again"),
        ("thread", "ok", "wrong"),
        ("thread", "reject", "right"),
        ("thread", "look_again", "again"),
        ("thread", "unreadable", "unreadable"),
    ],
)
def test_outcome(item, label, verdict, expected):
    assert gallery.outcome(item(label=label, verdict=verdict)) == expected


def test_rejected_parts_of_another_name_have_a_section_of_their_own(item):
    items = [
        item(input="right", named="thread", score=5.0),
        item(input="split", named="scratch"),
        item(input="bent", label="bent", named="good", score=2.5),
        item(input="missed", verdict="ok", named="good", score=1.0),
        item(input="alarm", label="good", named="thread"),
        item(input="of a verdict", score=4.0),
    ]
    found = {section.key: names(section) for section in gallery.sections(items, 2.0)}
    assert found["other-kind"] == ["bent", "split"]
    assert found["right"] == ["right", "of a verdict"]
    assert found["missed"] == ["missed"]
    assert found["false-alarms"] == ["alarm"]


def test_sections_begin_with_the_worst(item):
    items = [
        item(input="miss", verdict="ok", score=1.5),
        item(input="worst miss", verdict="ok", score=1.0),
        item(input="alarm", label="good", score=2.6),
        item(input="worst alarm", label="good", score=4.0),
        item(input="close", verdict="look_again", score=2.2),
        item(input="closer", label="good", verdict="look_again", score=2.4),
        item(input="found", score=9.0),
        item(input="passed", label="good", verdict="ok", score=0.5),
        item(input="broken", verdict="unreadable", score=None),
    ]
    found = {section.key: names(section) for section in gallery.sections(items, 2.5)}
    assert list(found.items()) == [
        ("missed", ["worst miss", "miss"]),
        ("false-alarms", ["worst alarm", "alarm"]),
        ("look-again", ["closer", "close"]),
        ("right", ["found", "passed"]),
    ]


def test_parts_that_are_looked_at_again_are_not_called_missed(item):
    # The headline's missed parts include those marked look again; each section counts its own.
    items = [item(input="a", verdict="ok"), item(input="b", verdict="look_again")]
    passed, *_, again = gallery.sections(items, 2.5)
    assert (passed.title, passed.total) == ("Passed as ok", 1)
    assert (again.title, again.total) == ("Look again", 1)


def test_the_rest_keeps_the_parts_closest_to_the_threshold_and_says_how_many(item):
    items = [item(input=str(i), label="good", verdict="ok", score=float(i)) for i in range(100)]
    section = gallery.sections(items, 90.0)[-1]
    assert names(section) == [str(i) for i in range(99, 39, -1)]
    assert section.total == 100
    assert "The 60 of 100 other parts closest to the threshold" in section.lead


def test_a_long_section_says_what_it_leaves_out(item):
    items = [item(input=str(i), verdict="ok", score=float(i)) for i in range(100)]
    section = gallery.sections(items, 200.0)[0]
    assert names(section) == [str(i) for i in range(60)]
    assert "The first 60 of 100 are shown." in section.lead


def test_heavy_pictures_end_the_gallery_early(item, monkeypatch):
    monkeypatch.setattr(gallery, "MAX_PICTURE_BYTES", 5000)
    heavy = item().picture + b"\0" * 1500
    items = [
        item(input=str(i), verdict="ok", score=float(i), picture=heavy, overlay=b"")
        for i in range(9)
    ]
    section = gallery.sections(items, 200.0)[0]
    assert names(section) == ["0", "1", "2"]
    assert "The first 3 of 9 are shown." in section.lead


def test_reconstructions_weigh_as_much_as_other_pictures(item, monkeypatch):
    monkeypatch.setattr(gallery, "MAX_PICTURE_BYTES", 5000)
    heavy = item().picture + b"\0" * 1500
    items = [
        item(
            input=str(i),
            verdict="ok",
            score=float(i),
            picture=b"",
            overlay=b"",
            reconstruction=heavy,
        )
        for i in range(9)
    ]
    assert names(gallery.sections(items, 200.0)[0]) == ["0", "1", "2"]


def test_the_list_keeps_unreadable_parts_and_those_closest_to_the_threshold(item, monkeypatch):
    monkeypatch.setattr(gallery, "MAX_LISTED", 3)
    items = [item(input=str(score), score=score) for score in (1.0, 2.0, 3.0, 4.0)]
    items.append(item(input="broken", verdict="unreadable", score=None))
    assert [i.input for i in gallery.listing(items, 3.1)] == ["4.0", "3.0", "broken"]


def test_no_threshold_and_no_scores_are_no_obstacle(item):
    items = [item(score=None), item(score=float("nan")), item(score=2.0)]
    assert len(gallery.sections(items, None)[-1].cards) == 3
