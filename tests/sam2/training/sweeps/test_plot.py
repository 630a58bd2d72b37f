"""The curves of a sweep: what is drawn, and that both formats draw it."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2.training.sweeps.drawing import Area, Line, Mark, Picture, Text
from sam2.training.sweeps.lines import panels
from sam2.training.sweeps.plot import draw, write_plot
from sam2.training.sweeps.runs import gather
from sam2.training.typed import ConfigError
from tests.sam2.training.sweeps.left_behind import leave_run

SVG = "{http://www.w3.org/2000/svg}"


def curve_of(path: Path, dim: int, seed: int, steps: int, score: float | None = 50.0, **more: Any) -> None:
    """Loss `dim + seed` at odd steps and 2 more at even ones; J&F `dim / 2 + seed` at the last step."""
    rows = [f"{k},{dim + seed + 2 * (k % 2 == 0)}," for k in range(1, steps)]
    rows.append(f"{steps},{dim + seed + 2 * (steps % 2 == 0)},{dim / 2 + seed}")
    settings = {"seed": seed, "model": {"mem_dim": dim}, **more}
    text = "step,train/loss,val/J&F\n" + "\n".join(rows) + "\n"
    leave_run(path / f"{dim}-{seed}", settings, [] if score is None else [score], metrics=text)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for dim in (100, 20):
        for seed in (1, 3):
            curve_of(tmp_path, dim, seed, 8)
    return tmp_path


def test_a_line_is_the_mean_of_the_seeds_with_their_range(runs: Path) -> None:
    loss, jf = panels(gather([runs]))
    assert [line.label for line in loss.lines] == ["model.mem_dim=20", "model.mem_dim=100"]
    first = loss.lines[0]
    assert (first.seeds, list(first.steps), loss.stretch) == (2, [1, 2, 3, 4, 5, 6, 7, 8], 1)
    assert list(first.lows) == [21, 23] * 4 and list(first.highs) == [23, 25] * 4
    assert list(first.means) == [22, 24] * 4
    assert [(line.steps, line.means) for line in jf.lines] == [([8], [12]), ([8], [52])]


def test_a_setting_that_is_not_set_is_named_in_letters_that_every_font_has(runs: Path) -> None:
    for dim, every in ((30, None), (30, 5)):
        curve_of(runs / str(every), dim, 0, 8, evaluate={"every_steps": every})
    labels = [line.label for line in panels(gather([runs / "None", runs / "5"]))[0].lines]
    assert labels == ["evaluate.every_steps=5", "evaluate.every_steps=null"] and "".join(labels).isascii()


def test_long_curves_are_means_over_stretches_of_steps(tmp_path: Path) -> None:
    curve_of(tmp_path, 10, 0, 600)
    (panel, _) = panels(gather([tmp_path]))
    assert panel.stretch == 10 and len(panel.lines[0].means) == 60
    assert set(panel.lines[0].means) == {11.0}, "as many even steps as odd ones in each"
    assert list(panel.lines[0].steps[:2]) == [5.5, 15.5]


def test_a_run_that_failed_cuts_no_line_short_but_is_drawn_where_there_is_no_other(runs: Path) -> None:
    curve_of(runs, 20, 5, 3, score=None)
    curve_of(runs, 60, 5, 3, score=None)
    lines = {line.label: line for line in panels(gather([runs]), ["train/loss"])[0].lines}
    assert (lines["model.mem_dim=20"].seeds, lines["model.mem_dim=20"].steps[-1]) == (2, 8)
    assert (lines["model.mem_dim=60"].seeds, lines["model.mem_dim=60"].steps[-1]) == (1, 3)


def test_what_cannot_be_drawn_is_said(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run has a column 'train/los' .*did you mean 'train/loss'"):
        panels(gather([runs]), ["train/los"])
    for dim in range(200, 212):
        curve_of(tmp_path, dim, 1, 2)
    with pytest.raises(ConfigError, match="14 combinations of model.mem_dim are too many lines"):
        panels(gather([tmp_path]))
    with pytest.raises(ConfigError, match=r"x.pdf: curves are drawn as .html, .svg, .png, not as .pdf"):
        write_plot(Path("x.pdf"), [], "")


def test_lines_differ_without_their_colour(runs: Path) -> None:
    for dim in range(200, 210):
        curve_of(runs, dim, 1, 8)
    picture = draw(panels(gather([runs]), ["train/loss"]))
    lines = [thing for thing in picture.things if isinstance(thing, Line) and thing.width > 1.5]
    marks = [thing.shape for thing in picture.things if isinstance(thing, Mark)]
    legend = [(line.dash, shape) for line, shape in zip(lines[-12:], marks[-12:], strict=True)]
    assert len(set(legend)) == 12


def test_axes_have_names_units_and_ends_that_hold_all_points(runs: Path) -> None:
    picture = draw(panels(gather([runs])))
    texts = [thing.text for thing in picture.things if isinstance(thing, Text)]
    for said in ("optimiser step", "train/loss", "val/J&F (%)", "model.mem_dim=20  (2 seeds)"):
        assert said in texts
    for thing in picture.things:
        corners = thing.points if isinstance(thing, Line | Area) else [thing.at]
        assert all(0 <= x <= picture.width and 0 <= y <= picture.height for x, y in corners)


def test_values_over_decades_get_a_logarithmic_axis(tmp_path: Path) -> None:
    text = "step,train/loss\n" + "".join(f"{k},{1000 / 10**k}\n" for k in range(4))
    leave_run(tmp_path / "a", {"seed": 0}, [50.0], metrics=text)
    picture = draw(panels(gather([tmp_path])))
    (line, *_) = [thing for thing in picture.things if isinstance(thing, Line) and thing.width > 1.5]
    heights = np.diff([y for _, y in line.points])
    assert np.allclose(heights, heights[0]), "equal factors are equal distances"
    assert "train/loss (logarithmic)" in [thing.text for thing in picture.things if isinstance(thing, Text)]


def test_every_format_is_one_file_that_needs_no_other(runs: Path) -> None:
    shown = panels(gather([runs]))
    for name in ("c.html", "c.svg", "c.png"):
        write_plot(runs / name, shown, "Curves <of> a & b")
    root = ET.fromstring((runs / "c.svg").read_text())
    assert root.tag == f"{SVG}svg" and root.find(f"{SVG}title").text == "Curves <of> a & b"  # type: ignore[union-attr]
    page = (runs / "c.html").read_text()
    assert "<svg" in page and "Curves &lt;of&gt; a &amp; b" in page
    assert page.count("http") == 1, "the name space of SVG, nothing to load"
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    with Image.open(runs / "c.png") as image:
        assert image.size == (2 * width, 2 * height)


def test_a_png_has_everything_where_the_svg_has_it() -> None:
    picture = Picture(100, 60)
    picture.things += [
        Line([(10, 10), (90, 10)], "#ff0000", 4),
        Line([(10, 20), (90, 20)], "#0000ff", 4, (20, 20)),
        Area([(10, 30), (50, 30), (50, 50), (10, 50)], "#000000", 0.5),
        Mark((70, 40), "square", "#00ff00"),
        Text((95, 50), "III", 14, "start", "#ff00ff", is_upright=True),
    ]
    pixels = np.asarray(Image.open(io.BytesIO(picture.as_png())).convert("RGB")).astype(int)

    def at(x: float, y: float) -> tuple[int, ...]:
        return tuple(pixels[int(2 * y), int(2 * x)])

    assert at(50, 10) == (255, 0, 0) and at(50, 15) == (255, 255, 255)
    dashes = [at(x, 20) == (0, 0, 255) for x in (20, 40, 60, 80)]
    assert dashes == [True, False, True, False]
    assert all(120 < value < 135 for value in at(30, 40))
    assert at(70, 40) == (0, 255, 0)
    rows, columns = np.nonzero((pixels[..., 1] < 128) & (pixels[..., 0] > 200) & (pixels[..., 2] > 200))
    assert 2 * 80 < columns.min() and columns.max() < 2 * 97, "above its line, which is to the left"
    assert 2 * 30 < rows.min() and rows.max() <= 2 * 50, "from its point upwards"
    assert np.count_nonzero(np.diff(np.unique(rows)) > 1) == 2, "three strokes"
