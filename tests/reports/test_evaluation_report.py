"""The evaluation page: what its first screen says, and that it is one safe file."""

from __future__ import annotations

import dataclasses
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from makellos.errors import StorageError
from makellos.evaluation import check_promise
from makellos.reports.evaluation import render_evaluation
from makellos.reports.gallery import data_uri
from makellos.reports.pages import write_page


class Page(HTMLParser):
    """Collect tags with their attributes, and check that elements are closed in order."""

    VOID = frozenset({"meta", "link", "img", "input", "br", "wbr"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def ids(self):
        return [attributes["id"] for _, attributes in self.tags if "id" in attributes]


def first_screen(text: str) -> str:
    return text.partition("How the parts were judged")[0]


def test_first_screen_answers_what_was_missed_and_rejected(report, text_of):
    seen = first_screen(text_of(render_evaluation(report())))
    assert "Missed 9 of 119 defective parts" in seen
    assert "5 passed as ok. 4 marked look again" in seen
    assert "That is 7.6 %; 95 % interval 3.5 % to 13.9 %." in seen
    assert "Rejected 1 of 41 good parts" in seen
    assert "Promised: at most 1 %, about 0.4 of 41." in seen
    assert "Agrees with the budget" in seen
    assert "2 more were marked look again." in seen


def test_first_screen_names_the_kind_and_the_size_missed_most(report, text_of):
    seen = first_screen(text_of(render_evaluation(report())))
    assert "Most often missed: thread, 7 of 23." in seen
    assert "Most often missed: small damage, 8 of 40." in seen
    assert re.search(r"thread +7 +4 +16 of 23", seen)
    assert re.search(r"small up to 400 px +8 +4 +32 of 40", seen)
    assert re.search(r"medium 400-1600 px +1 +- +49 of 50", seen)
    assert re.search(r"large from 1600 px +0 +- +29 of 29", seen)


def test_a_budget_that_could_not_be_promised_stands_before_the_figures(report, text_of):
    note = "Every figure uses 1 %."
    page = render_evaluation(report(figures={"false_alarms_asked": 0.002}, notes=(note,)))
    seen = text_of(page)
    promised = (
        "Asked for at most 0.2 % false alarms; the good parts at hand can promise 1 % at best."
    )
    assert 0 < seen.index(promised) < seen.index(note) < seen.index("Missed 9")


def test_a_budget_that_was_promised_needs_no_note(report):
    assert '<aside class="notes"' not in render_evaluation(report())


@pytest.mark.parametrize(
    ("rejected", "group", "badge", "said"),
    [
        (0, None, "Within the budget", "Measured: 0 %."),
        (1, None, "Agrees with the budget", "33.8 % of such tests reject as many"),
        (10, None, "More than promised", "chance does not explain it"),
        (1, "one lot", "Cannot be judged", "cannot be judged from a single group"),
    ],
)
def test_the_rejections_are_judged_against_the_budget(
    report, text_of, rejected, group, badge, said
):
    verdicts = [True] * rejected + [False] * (41 - rejected)
    promise = dataclasses.asdict(check_promise(verdicts, [group] * 41, 0.01))
    figures = {"false_alarm_rate": rejected / 41, "promise": promise, "intervals": {}}
    seen = text_of(render_evaluation(report(figures=figures)))
    assert badge in seen
    assert said in seen


@pytest.mark.parametrize(("rate", "badge"), [(0, "Within the budget"), (0.1, "Above the budget")])
def test_figures_without_a_test_of_the_promise_are_compared(report, text_of, rate, badge):
    figures = {"false_alarm_rate": rate, "promise": None}
    assert badge in text_of(render_evaluation(report(figures=figures)))


def test_zero_misses_still_say_what_remains_possible(report, text_of):
    figures = {"miss_rate": 0.0, "n_look_again_defective": 0, "intervals": {"miss_rate": [0, 0.03]}}
    seen = text_of(render_evaluation(report(figures=figures)))
    assert "Missed 0 of 119 defective parts" in seen
    assert "Every one was rejected." in seen
    assert "a true miss rate up to 3 % remains possible" in seen


def test_verdict_counts_add_up(report, text_of):
    seen = text_of(render_evaluation(report()))
    assert re.search(r"Good +38 +2 +1 +0 +41", seen)
    assert re.search(r"Defective +5 +4 +110 +0 +119", seen)


def test_the_page_asks_the_network_for_nothing(report):
    page = render_evaluation(report())
    tags = Page(page).tags
    targets = [a[key] for _, a in tags for key in ("src", "href", "srcset", "action") if key in a]
    assert targets
    assert all(target.startswith(("#", "data:")) for target in targets)
    assert "://" not in page
    assert "@import" not in page
    assert "url(" not in page
    policies = [a["content"] for a in Page(page).all("meta") if "http-equiv" in a]
    assert policies[0].startswith("default-src 'none'; img-src data:")


def test_the_page_is_well_formed_and_its_anchors_exist(report):
    page = Page(render_evaluation(report()))
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    anchors = {a["href"][1:] for a in page.all("a")}
    assert anchors <= set(page.ids)


def test_headings_descend_by_one_and_pictures_have_texts(report):
    page = Page(render_evaluation(report()))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(image["alt"] for image in page.all("img"))
    assert all("aria-label" in a or a.get("aria-hidden") == "true" for a in page.all("svg"))


def test_names_from_files_are_text_and_not_markup(report, item):
    evil = '"><script>alert(1)</script><img src=x onerror=alert(2)>_end'
    page = render_evaluation(
        report(
            title=evil,
            data=evil,
            notes=(evil,),
            provenance={evil: evil},
            figures={"detector": evil, "by_defect": {evil: {"n": 1, "miss_rate": 1.0}}},
            items=(
                item(input=evil, label=evil),
                item(input=evil, label=evil, verdict="unreadable", score=None, error=evil),
            ),
        )
    )
    tags = Page(page)
    assert len(tags.all("script")) == 1
    assert not any("onerror" in attributes for _, attributes in tags.tags)
    assert all(image["src"].startswith("data:image/") for image in tags.all("img"))
    assert "&lt;script&gt;alert(1)" in page
    assert "alert(2)&gt;_<wbr>end" in page  # a long name may go on in the next line there


def test_every_metric_may_be_missing(report, text_of):
    kept = ("n_good", "n_defective")
    figures = dict.fromkeys([key for key in report().figures if key not in kept])
    seen = text_of(render_evaluation(report(figures=figures)))
    assert "Missed - of 119 defective parts" in seen
    assert "AUPRO - not measured: needs masks of the damage" in seen
    assert "nan" not in seen.lower().split()
    assert "None" not in seen


def test_not_a_number_reads_as_missing(report, text_of):
    seen = text_of(render_evaluation(report(figures={"aupro": float("nan")})))
    assert "AUPRO - not measured" in seen


def test_figures_may_lack_every_optional_key(report):
    bare = dataclasses.replace(report(), figures={"n_good": 0, "n_defective": 0}, items=())
    assert Page(render_evaluation(bare)).open == []


def test_no_defective_parts(report, item, text_of):
    figures = {"n_defective": 0, "miss_rate": None, "by_defect": {}, "by_size": []}
    items = (item(label="good", verdict="ok", score=1.0),)
    page = render_evaluation(report(figures=figures, items=items, roc=None, precision_recall=None))
    seen = text_of(page)
    assert "Tested 0 defective parts" in seen
    assert "Not drawn: curves need scores of good and of defective parts." in seen
    assert "No good part was rejected." in seen
    assert "missed" not in Page(page).ids
    assert "defects" not in Page(page).ids


def test_no_good_parts(report, item, text_of):
    figures = {"n_good": 0, "false_alarm_rate": None}
    page = render_evaluation(report(figures=figures, items=(item(),)))
    assert "Tested 0 good parts" in text_of(page)
    assert "No defective part passed as ok." in text_of(page)
    assert "false-alarms" not in Page(page).ids


def test_without_masks_the_size_is_said_to_be_unknown(report, text_of):
    assert "By size of damage Unknown:" in text_of(
        render_evaluation(report(figures={"by_size": []}))
    )


def test_unreadable_files_are_counted_and_named(report, item, text_of):
    broken = item(input="good/9.png", label="good", verdict="unreadable", score=None, error="cut")
    seen = text_of(render_evaluation(report(items=(item(), broken))))
    assert "1 file could not be read and is left out of the figures." in first_screen(seen)
    assert "good/9.png cut" in seen
    assert re.search(r"Good +38 +2 +1 +1 +42", seen)


def test_many_kinds_leave_the_first_screen_short(report, text_of):
    kinds = {f"kind{i:02d}": {"n": 20, "miss_rate": i / 20} for i in range(12)}
    seen = text_of(render_evaluation(report(figures={"by_defect": kinds})))
    assert "kind11" in first_screen(seen)
    assert "kind03" not in first_screen(seen)
    assert "4 more kinds" in first_screen(seen)
    assert "kind03" in seen


def test_recordings_and_class_metrics_are_shown_where_there_are_some(report, text_of):
    recordings = {
        "quiet.npz": {"label": "good", "verdict": "ok", "n_windows": 40, "share_rejected": 0.0},
        "loud.npz": {
            "label": "outer",
            "verdict": "look_again",
            "n_windows": 50,
            "share_rejected": 0.5,
        },
    }
    figures = {"recordings": recordings, "balanced_accuracy": 0.875, "macro_f1": 0.8}
    seen = text_of(render_evaluation(report(figures=figures)))
    assert re.search(r"loud.npz outer +look again +50 +50 % +quiet.npz good +ok +40 +0 %", seen)
    first = seen.partition("How the windows were judged")[0]
    assert "Missed 1 of 1 defective recording" in first
    assert "Rejected 0 of 1 good recording" in first
    assert "masks" not in first
    assert "How the windows were judged" in seen
    assert "AUROC of windows 0.981" in seen
    assert "Image AUROC" not in seen
    assert "Balanced accuracy 87.5 %" in seen
    assert "Macro F1 0.800" in seen
    assert "Balanced accuracy" not in text_of(render_evaluation(report()))


def test_provenance_holds_what_was_given_and_the_thresholds(report, text_of):
    seen = text_of(render_evaluation(report())).split("Provenance")[-1]
    assert "Backbone tf_efficientnet_lite0" in seen
    assert "Threshold (reject) 2.5" in seen
    assert "Inspection takes 38.4 ms per part" in seen


def test_a_thousand_parts_stay_a_light_page(report, item):
    weight = 20_000
    picture = item().picture + b"\0" * weight
    items = [
        item(input=f"{label}/{i:04d}.png", label=label, verdict=verdict, score=i / 100)
        for i in range(250)
        for label in ("good", "thread")
        for verdict in ("ok", "reject")
    ]
    items = [dataclasses.replace(i, picture=picture, overlay=b"") for i in items]
    page = render_evaluation(report(items=items))
    assert len(Page(page).all("img")) == 3 * 60
    assert len(page) < 180 * weight * 4 / 3 + 1_000_000


def test_a_card_shows_part_nearest_good_part_and_damage(report, item, picture):
    made = picture(".webp", 200)
    items = (item(reconstruction=made), item(input="plain.png", score=2.9))
    page = render_evaluation(report(items=items))
    shown = [image["src"] for image in Page(page).all("img")]
    expected = [picture(), made, picture(".jpg"), picture(), picture(".jpg")]
    assert shown == [data_uri(encoded) for encoded in expected]
    assert page.count('class="pictures three"') == 1
    assert "nearest good part</small>" in page
    assert Page(page).open == []


def test_a_card_says_what_the_map_of_damage_shows(report, item, picture):
    items = (item(reconstruction=picture(".webp", 200), map_name="SSIM <residual>"),)
    page = render_evaluation(report(items=items))
    assert "<small>damage: SSIM &lt;residual&gt;</small>" in page


def test_a_card_may_have_a_map_alone(report, item, picture):
    items = (item(picture=b""), item(picture=b"", overlay=b"", input="nothing.png"))
    page = render_evaluation(report(items=items))
    assert [image["src"] for image in Page(page).all("img")] == [data_uri(picture(".jpg"))]
    assert page.count('<span class="no-picture">') == 2


def test_cards_without_reconstruction_show_two_pictures_as_ever(report):
    page = render_evaluation(report())
    assert 'class="pictures three"' not in page
    assert 'class="cards wide"' not in page
    assert "nearest good part" not in page
    assert len(Page(page).all("img")) == 2 * len(report().items)


def test_the_accuracy_that_tutorials_quote_is_named_optimistic(report, text_of):
    figures = {"optimistic_accuracy": 0.975, "intervals": {"optimistic_accuracy": None}}
    seen = text_of(render_evaluation(report(figures=figures)))
    table = seen.split("What it says")[-1]
    assert table.index(" Accuracy ") < table.index("Best accuracy (optimistic) 97.5 %")
    assert "a ceiling, not a forecast; tutorials quote it" in table
    assert "optimistic" not in text_of(render_evaluation(report()))


def test_writing_replaces_the_file_and_leaves_nothing_beside_it(report, tmp_path):
    path = tmp_path / "new folder" / "report.html"
    write_page(path, render_evaluation(report(title="First")))
    write_page(path, render_evaluation(report(title="Second")))
    assert "<h1>Second</h1>" in path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_a_failed_write_keeps_the_old_report(report, tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    write_page(path, render_evaluation(report(title="First")))

    def refuse(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError, match="No space left on device"):
        write_page(path, render_evaluation(report(title="Second")))
    assert "<h1>First</h1>" in path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_in_the_way_is_a_storage_error(report, tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(StorageError, match=r"report\.html"):
        write_page(tmp_path / "report.html", render_evaluation(report()))
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_file_names_that_are_no_unicode_can_be_written(report, item, tmp_path):
    path = tmp_path / "report.html"
    write_page(path, render_evaluation(report(items=(item(input="bad\udcff.png"),))))
    assert "bad?.png" in path.read_text(encoding="utf-8")
