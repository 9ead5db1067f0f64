"""The report page: complete, well formed, and nothing in it comes from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from tests.evaluation.made_up import random_case
from vlpart.evaluation.benchmarks import custom
from vlpart.evaluation.dataset import Dataset
from vlpart.evaluation.report import build_report
from vlpart.evaluation.run import score_all
from vlpart.evaluation.shards import Predictions
from vlpart.visualize.page import (
    Bar,
    BarGroup,
    Confusion,
    Curve,
    Report,
    Table,
    chart,
    render_report,
)

ODD = '<b>"wheel" & co</b>'


class Balanced(HTMLParser):
    """Notes open and closed elements, links and text."""

    def __init__(self):
        super().__init__()
        self.open, self.sources, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def parsed(page):
    reader = Balanced()
    reader.feed(page)
    assert reader.open == []
    return reader


def report(**changes):
    fields = {
        "title": ODD,
        "facts": [ODD],
        "headline": [(ODD, "12.3")],
        "tables": [Table(title=ODD, headings=["", ODD], rows=[[ODD, "1"]], about=ODD)],
        "bars": [BarGroup(title=ODD, bars=[Bar(name=ODD, ap=0.2, ap50=0.5, count=3)])],
        "curves": [Curve(title=ODD, at50=[1.0, 0.5, 0.0], at75=[0.5, 0.0, 0.0])],
        "confusion": Confusion(names=[ODD, "b"], counts=[[3, 1, 0], [0, 5, 2], [1, 0, 0]]),
        "confused": Table(title=ODD, headings=[""], rows=[[ODD]]),
        "best": [],
        "worst": [],
        "notes": [ODD],
    }
    return Report(**(fields | changes))


def test_names_are_text_and_never_markup():
    page = render_report(report())
    assert "<b>&quot;" not in page.replace("<b>12.3", "") and '<b>"wheel"' not in page
    assert parsed(page).text.count('<b>"wheel" & co</b>') >= 10
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page) and "<script" not in page


@pytest.mark.parametrize(
    "svg",
    [
        chart("bar_chart", [Bar(name=ODD, ap=0.25, ap50=1.0, count=7)], ODD),
        chart("curve_chart", Curve(title=ODD, at50=[1.0] * 101, at75=[0.0] * 101)),
        chart("confusion_chart", Confusion(names=["a", "b"], counts=[[9, 1, 0], [0, 0, 4], [2, 0, 0]])),
    ],
)
def test_charts_are_well_formed(svg):
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg") and len(list(root.iter())) > 5


def test_bars_are_as_long_as_their_figures():
    root = ElementTree.fromstring(chart("bar_chart", [Bar(name="a", ap=0.25, ap50=0.75, count=7)], "t"))
    bars = {e.get("class"): float(e.get("width")) for e in root.iter("{http://www.w3.org/2000/svg}rect")}
    assert bars["bar50"] == pytest.approx(3 * bars["bar"])


def test_the_matrix_shows_shares_of_rows():
    text = chart("confusion_chart", Confusion(names=["a", "b"], counts=[[9, 1, 0], [0, 0, 4], [2, 0, 0]]))
    assert "a found as b: 1 (10%)" in text and "b found as nothing: 4 (100%)" in text
    assert "a found where nothing of it is annotated: 2" in text


def test_a_page_without_images(tmp_path):
    truth, detections = random_case(0)
    dataset = Dataset(truth=truth, images=None, benchmark=custom(tmp_path / "mine.json", truth))
    evaluation, checked = score_all(dataset, Predictions(detections=detections, proposals={}), extras=("recall",))
    built = build_report("mine", dataset, checked, evaluation)
    assert {bar.name for bar in built.bars[0].bars} == {"car", "car:wheel", "car:door"}
    assert sum(bar.count for bar in built.bars[0].bars) == sum(not a["iscrowd"] for a in truth["annotations"])
    assert built.curves[0].title == "mean of 3 classes"
    assert built.confusion.names == ["car:wheel", "car:door"]
    rows = [a for a in checked.annotations if a["category_id"] == 7 and not a["iscrowd"]]
    assert sum(built.confusion.counts[0]) <= len(rows)
    assert "No images on this page" in built.notes[-1]
    assert "Class-agnostic box recall of detections" in parsed(render_report(built)).text


def test_nothing_found(tmp_path):
    truth, _ = random_case(0)
    dataset = Dataset(truth=truth, images=None, benchmark=custom(tmp_path / "mine.json", truth))
    evaluation, checked = score_all(
        dataset, Predictions(detections=[], proposals={}), extras=("pairs", "part_iou", "recall")
    )
    page = render_report(build_report("nothing", dataset, checked, evaluation))
    assert "There is no detection that counts." in parsed(page).text
