from __future__ import annotations

import base64
import dataclasses
import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from facemtl import __version__
from facemtl.training.aging_grid import write_aging_grid
from facemtl.training.curves import draw_curves, panels_of
from facemtl.training.held_out import HeldOutFigures
from facemtl.training.metrics_file import MetricSeries
from facemtl.training.metrics_log import MetricsLog
from facemtl.training.report import write_report

UNTRAINED = HeldOutFigures(
    faces=192,
    people=24,
    pairs=1344,
    auc=0.71,
    accuracy=0.65,
    pairs_across_ages=828,
    auc_across_ages=0.68,
    same_person_similarity=0.73,
    two_people_similarity=0.62,
    faces_of_known_age=190,
    age_error=20.9,
    age_within_5_years=0.125,
    age_error_of_median=20.3,
    synthesized=24,
    group_labels=("20−", "21–40", "41+"),
    age_accuracy=1 / 3,
    age_accuracy_by_group=(0.0, 1.0, 0.0),
    identity_preservation=1.0,
    identity_preservation_by_group=(1.0, 1.0, 1.0),
    pixel_change=0.1,
    pixel_change_by_group=(0.1, 0.1, 0.1),
)
TRAINED = dataclasses.replace(
    UNTRAINED,
    accuracy=0.912,
    auc=0.602,
    age_error=6.25,
    age_accuracy=0.5,
    age_accuracy_by_group=(0.25, 0.5, 0.75),
    identity_preservation=0.5,
    identity_preservation_by_group=(0.25, 0.5, 0.75),
    pixel_change=16.0,
    pixel_change_by_group=(32.0, 8.0, 8.0),
)


class Page(HTMLParser):
    """Cells of the tables, pictures and tags of a page; complains about tags that do not close."""

    VOID = frozenset({"meta", "img", "source"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data

    def row(self, name: str, *, table: int = 0) -> list[str]:
        """Cells of the row of that name; in the second table if wanted, where some names come again."""
        return [row[1:] for row in self.rows if row[0] == name][table]

    def addresses(self) -> Iterator[str]:
        for _, attributes in self.tags:
            for name in ("src", "srcset", "href"):
                if attributes.get(name):
                    yield str(attributes[name])


def write_run(folder: Path) -> None:
    with MetricsLog(folder, ["recognition/identity", "recognition/learning_rate"], tensorboard=False) as log:
        for step in range(1, 101):
            log.write(step, {"recognition/identity": 30 / step, "recognition/learning_rate": 0.1})
    write_aging_grid(folder / "grid.png", torch.zeros(2, 3, 3, 16, 16), column_labels=("input", "a", "b"))


@pytest.fixture
def report(tmp_path: Path) -> str:
    write_run(tmp_path)
    write_report(
        tmp_path / "report.html",
        title="A <run> & more",
        settings={"seed": 3, "faces": {"sources": ("<a>.csv", "b.rec"), "size": None}, "empty": ()},
        metrics_csv=tmp_path / "metrics.csv",
        grid_png=tmp_path / "grid.png",
        figures=TRAINED,
        baseline=UNTRAINED,
        notes=["A </p> note."],
    )
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_figures_stand_in_their_columns(report: str) -> None:
    page = Page(report)
    assert page.row("verification accuracy")[:3] == ["91.2 %", "65.0 %", "+26.2 points ▲"]
    assert page.row("verification AUC")[:3] == ["0.602", "0.710", "−0.108 ▼"]
    assert page.row("AUC across ages")[:3] == ["0.680", "0.680", "0.000"]
    assert page.row("age error")[:3] == ["6.2 years", "20.9 years", "−14.6 years ▲"]
    assert page.row("identity preservation")[:3] == ["0.500", "1.000", "−0.500"]  # neither better nor worse by itself
    assert page.row("target age") == ["20−", "21–40", "41+", "all"]
    assert page.row("age accuracy") == ["25.0 %", "50.0 %", "75.0 %", "50.0 %"]
    assert page.row("age accuracy, untrained") == ["0.0 %", "100.0 %", "0.0 %", "33.3 %"]
    assert page.row("pixel change", table=1) == ["32.0", "8.0", "8.0", "16.0"]
    assert "192 faces of 24 people" in report
    assert "The model judges itself" in report


def test_one_file_holds_everything(report: str) -> None:
    """No address but of what is inside, no script, and a policy that forbids both."""
    page = Page(report)
    addresses = list(page.addresses())
    assert len(addresses) == 3
    assert all(address.startswith("data:image/") for address in addresses)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert "default-src 'none'" in report
    assert re.findall(r"https?://", re.sub(r'"data:[^"]*"', "", report)) == []
    grid = next(address for address in addresses if "/png" in address)
    with Image.open(io.BytesIO(base64.b64decode(grid.partition(",")[2]))) as image:
        assert image.format == "PNG"
    curves = [base64.b64decode(address.partition(",")[2]) for address in addresses if "/svg" in address]
    assert {ElementTree.fromstring(curve).tag for curve in curves} == {"{http://www.w3.org/2000/svg}svg"}
    assert curves[0] != curves[1]  # light and dark


def test_text_is_text(report: str) -> None:
    assert "<h1>A &lt;run&gt; &amp; more</h1>" in report
    assert "<title>A &lt;run&gt; &amp; more</title>" in report
    assert "A &lt;/p&gt; note." in report
    assert "<dt>faces.sources</dt><dd>&lt;a&gt;.csv, b.rec</dd>" in report
    assert "<dt>faces.size</dt><dd>none</dd>" in report
    assert "<dt>empty</dt><dd>none</dd>" in report
    assert f"facemtl {__version__}" in report
    assert f"torch {torch.__version__}" in report


def test_what_is_absent_is_left_out(tmp_path: Path) -> None:
    figures = dataclasses.replace(
        TRAINED, age_accuracy=None, identity_preservation=None, pixel_change=None, auc_across_ages=None, synthesized=0
    )
    with MetricsLog(tmp_path, ["a"], tensorboard=False):
        pass
    write_report(
        tmp_path / "a" / "report.html",
        title="\ud800 name of a file",
        settings={},
        metrics_csv=tmp_path / "metrics.csv",
        grid_png=None,
        figures=figures,
    )
    text = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    names = [row[0] for row in Page(text).rows]
    assert "age accuracy of synthesis" not in names
    assert "AUC across ages" not in names
    assert "untrained" not in text.partition("</style>")[2]
    assert [tag for tag in ("<img", "Curves", "Settings", "judges itself") if tag in text] == []
    write_report(tmp_path / "b.html", title="b", settings={}, metrics_csv=None, grid_png=None, figures=None)
    assert "Nobody was held out" in (tmp_path / "b.html").read_text(encoding="utf-8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b.html", "metrics.csv"]


def test_curves_are_drawn_the_same_and_leave_matplotlib_alone() -> None:
    steps = np.arange(1, 5001)
    values = np.random.default_rng(0).normal(size=5000) + 3 + 500 / steps
    values[100:120] = np.nan
    values[3000] = np.inf
    metrics = {
        "recognition/identity": MetricSeries(steps, values),
        "recognition/once": MetricSeries(steps[:1], values[:1]),
        "synthesis/never": MetricSeries(steps[:0], values[:0]),
        "synthesis/nan": MetricSeries(steps[:2], np.array([np.nan, np.inf])),
        "_$odd^/learning_rate": MetricSeries(steps, np.full(5000, 1e-4)),
    }
    before = dict(mpl.rcParams)
    light, dark = draw_curves(metrics), draw_curves(metrics, dark=True)
    assert dict(mpl.rcParams) == before
    assert draw_curves(metrics) == light != dark
    assert len(light) < 200_000
    groups = [element.get("id", "") for element in ElementTree.fromstring(light).iter()]
    assert sum(group.startswith("axes_") for group in groups) == 2


@pytest.mark.parametrize("spread", [1.0, 1e-6])
def test_constant_and_single_values_can_be_drawn(spread: float) -> None:
    for values in ([0.0], [-1.0, -1.0], [1e-30, spread], [1e300, 1e-300, 1.0]):
        series = MetricSeries(np.arange(len(values)), np.array(values))
        assert draw_curves({"loss": series}).startswith(b"<?xml")


def test_panels_of_a_run() -> None:
    names = ("a/total", "a/gradient_norm", "b/real_score", "b/x_gradient_norm", "images_per_second", "other", "b/loss")
    assert panels_of(names) == {
        "a": ("a/total",),
        "b: scores": ("b/real_score",),
        "metrics": ("other",),
        "b": ("b/loss",),
        "gradient norm": ("a/gradient_norm", "b/x_gradient_norm"),
        "images per second": ("images_per_second",),
    }
