from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from sam2.evaluation.curves import Curve, Line, draw, number, read_metrics
from sam2.evaluation.jf import Scores
from sam2.evaluation.page import Figure, Page, page_of_run, render, write_page
from sam2.evaluation.report import Report, summarise, write_results

NEVER_CLOSED = {"meta", "img"}


class Balance(HTMLParser):
    """Checks that every element is closed in order, and collects the text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in NEVER_CLOSED:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def parse(html: str) -> Balance:
    parser = Balance()
    parser.feed(html)
    assert not parser.open
    return parser


def result(name: str, worst: str, is_baseline: bool = False):
    values = {video: 0.2 if video == worst else 0.9 for video in ("cat", "dog", "<emu>")}
    return summarise(
        name,
        {v: {1: Scores(np.full(4, x), np.full(4, x))} for v, x in values.items()},
        is_baseline=is_baseline,
    )


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "demo-run"
    write_results(
        folder / "eval" / "results.json", Report((result("copy", "cat", True), result("trained", "dog")))
    )
    (folder / "metrics.csv").write_text(
        "epoch,step,train/loss,val/jf\n0,0,3.5,\n0,1,2.5,\n0,1,,40\n0,2,1.5,80\n"
    )
    (folder / "config.yaml").write_text("model: <demo>\n")
    (folder / "run.json").write_text(json.dumps({"commit": "1a2b3c", "packages": {"torch": "2"}, "seed": 7}))
    Image.new("RGB", (4, 3), (255, 0, 0)).save(folder / "eval" / "sheet_cat.png")
    (folder / "eval" / "cat.mp4").write_bytes(b"moving")
    return folder


def test_the_page_of_a_run_holds_all_its_parts_and_needs_no_network(run):
    write_page(run / "report.html", page_of_run(run))
    html = (run / "report.html").read_text()
    page = parse(html)
    text = " ".join(page.texts)
    for expected in (
        "demo-run",
        "commit",
        "1a2b3c",
        "trained",
        "copy",
        "model: <demo>",
        "sheet cat",
        "loss",
        "jf",
    ):
        assert expected in text
    assert page.links and all(link.startswith("data:") for link in page.links)
    assert not re.search(r"https?://|@import|url\(", html)


def test_pictures_are_embedded_whole(run):
    links = parse(render(page_of_run(run))).links
    assert base64.b64decode(links[0].removeprefix("data:video/mp4;base64,")) == b"moving"
    assert base64.b64decode(links[1].split(",")[1]) == (run / "eval" / "sheet_cat.png").read_bytes()


def test_videos_are_listed_worst_first(run):
    table = render(page_of_run(run)).split("Videos, worst first")[1]
    rows = re.findall(r"<tr><th>(.*?)</th>", table)
    assert rows[1] == "dog"  # after the heading
    assert sorted(rows[1:]) == ["&lt;emu&gt;", "cat", "dog"]


def test_the_headline_is_the_margin_over_the_best_baseline():
    report = Report((result("copy", "cat", True), result("trained", "none")))
    text = " ".join(parse(render(Page("t", report))).texts)
    assert "90.0" in text
    assert f"{report.main.jf - report.best_baseline.jf:+.1f} over copy" in text


def test_names_cannot_inject_markup():
    evil = "<script>alert(1)</script>\"'"
    html = render(
        Page(evil, Report((result(evil, evil),)), {evil: evil}, [Curve(evil, (0, 1), (1, 2))], (), evil)
    )
    parse(html)
    assert "<script" not in html


def test_a_run_with_nothing_in_it_still_has_a_page(tmp_path):
    assert "Scores" not in " ".join(parse(render(page_of_run(tmp_path, "bare"))).texts)


def test_a_figure_that_no_browser_shows_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"masks\.npz: a page shows \.png, .*not '\.npz'"):
        render(Page("t", figures=[Figure(tmp_path / "masks.npz", "masks")]))


# ------------------------------------------------------------------------------------------------ curves


def points(svg: str, kind: str) -> np.ndarray:
    found = re.search(rf'class="{kind}" points="([^"]*)"', svg)
    assert found
    return np.array([[float(v) for v in pair.split(",")] for pair in found[1].split()])


def test_metrics_keep_their_own_steps_and_leave_out_gaps(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,epoch,loss,val/jf,name\n0,0,4,,a\n10,0,nan,50,b\n20,0,2,,c\n30,0,inf,60,d\n")
    assert read_metrics(path) == (Curve("loss", (0, 20), (4, 2)), Curve("val/jf", (10, 30), (50, 60)))


def test_metrics_without_steps_are_counted_by_row(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("loss\n3\n2\n")
    assert read_metrics(path) == (Curve("loss", (0, 1), (3, 2)),)


def test_a_curve_is_linear_in_both_axes():
    drawn = points(draw(Curve("a", (0, 5, 10), (0, 5, 10))), "line")
    np.testing.assert_allclose(np.diff(drawn, axis=0)[0], np.diff(drawn, axis=0)[1], atol=0.11)
    assert drawn[-1, 0] > drawn[0, 0]
    assert drawn[-1, 1] < drawn[0, 1]  # up is less in SVG


def test_a_long_curve_keeps_its_spikes_in_the_band():
    values = [0.0] * 100_000
    values[50_000] = 100.0
    svg = draw(Curve("spiky", tuple(range(100_000)), tuple(values)))
    assert len(svg) < 20_000
    assert points(svg, "band")[:, 1].min() < points(svg, "line")[:, 1].min() - 50


@pytest.mark.parametrize("values", [(5.0,), (5.0, 5.0), (0.0, 0.0), (-1e-9, 1e-9), (1e12, -1e12)])
def test_flat_short_and_extreme_curves_can_be_drawn(values):
    svg = draw(Curve("a", tuple(range(len(values))), values))
    parse(svg)
    assert np.isfinite(points(svg, "line")).all()


def test_a_line_to_compare_with_lies_inside_the_plot():
    svg = draw(Curve("jf", (0, 1), (50, 60)), [Line("copy", 10)])
    assert (points(svg, "floor")[:, 1] < 132).all()
    assert points(svg, "floor")[0, 1] > points(svg, "line")[:, 1].max()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (12.5, "12.5"),
        (12000, "12k"),
        (0.00012, "1.2e-4"),
        (3e6, "3e6"),
        (-0.5, "-0.5"),
        (2e-5, "2e-5"),
    ],
)
def test_numbers_are_short(value, text):
    assert number(value) == text
