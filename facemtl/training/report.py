"""What a run came to, on one page."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

from facemtl._core.version import __version__
from facemtl._core.whole_files import stage
from facemtl.training.curves import draw_curves
from facemtl.training.held_out import HeldOutFigures
from facemtl.training.metrics_file import read_metrics
from facemtl.training.report_figures import figures_table, groups_table, headline_tiles
from facemtl.training.report_page import page, picture, text

_SELF_JUDGED = (
    "The model judges itself: ages and identities of synthesized faces are read by its own age head and recogniser, "
    "which the generator was trained to please. Independent networks may see them otherwise; so may you, in the grid."
)


def write_report(
    path: str | Path,
    *,
    title: str,
    settings: Mapping[str, Any],
    metrics_csv: str | Path | None,
    grid_png: str | Path | None,
    figures: HeldOutFigures | None,
    baseline: HeldOutFigures | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write a report of a run: figures on people held out, faces at all ages, curves, settings and versions.

    One HTML file with its pictures inside, without scripts and without a network; it appears whole or not at all, and
    follows the reader's choice of a light or a dark page.

    Args:
        path: File to write, ending in ``.html``; its folder is made.
        title: Of the page.
        settings: Names and values, plain or in groups.
        metrics_csv: Of the run, by :class:`~facemtl.training.metrics_log.MetricsLog`; None leaves the curves out.
        grid_png: By :func:`~facemtl.training.aging_grid.write_aging_grid`; None leaves it out.
        figures: Of the trained model; None if nobody was held out.
        baseline: Of an untrained model of the same shape, on the same faces.
        notes: What a reader should know, a paragraph each.

    Raises:
        ValueError: If ``path`` does not end in ``.html``, or a file is not what it should be.
        ImportError: If matplotlib is missing.
        OSError: If a file cannot be read or the disk is full, say.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "report.html"
        >>> write_report(path, title="A run", settings={"seed": 0}, metrics_csv=None, grid_png=None, figures=None)
        >>> "<h1>A run</h1>" in path.read_text(encoding="utf-8")
        True
    """
    path = Path(path)
    if path.suffix.lower() != ".html":
        raise ValueError(f"write_report: 'path' must end in '.html', got {str(path)!r}.")
    body = [f"<h1>{text(title)}</h1>", *_figures(figures, baseline)]
    body += [f'<p class="note">{text(note)}</p>' for note in notes]
    body += _grid(grid_png) + _by_group(figures, baseline) + _curves(metrics_csv) + _settings(settings) + _versions()
    path.parent.mkdir(parents=True, exist_ok=True)
    os.replace(stage(page(title, body).encode(), staging=path.parent), path)


def _figures(figures: HeldOutFigures | None, baseline: HeldOutFigures | None) -> list[str]:
    if figures is None:
        return ['<p class="soft">Nobody was held out of this run: there are no figures on unseen people.</p>']
    compared = " The untrained model has the same shape and random weights." if baseline else ""
    return [
        f'<p class="soft">Judged on {figures.faces:,} faces of {figures.people:,} people whom the run never saw.'
        f"{compared}</p>",
        headline_tiles(figures, baseline),
        "<h2>Figures on unseen people</h2>",
        figures_table(figures, baseline),
        f'<p class="note">{text(_SELF_JUDGED)}</p>' if figures.age_accuracy is not None else "",
    ]


def _grid(path: str | Path | None) -> list[str]:
    if path is None:
        return []
    shown = picture(Path(path).read_bytes(), "png", "Faces of several people, each at all target ages")
    caption = "Each row is a person; the first column is the input, the others what the generator makes of it."
    return ["<h2>Faces at all ages</h2>", f'<figure class="grid">{shown}<figcaption>{caption}</figcaption></figure>']


def _by_group(figures: HeldOutFigures | None, baseline: HeldOutFigures | None) -> list[str]:
    shown = groups_table(figures, baseline) if figures is not None else ""
    return ["<h2>Synthesis by target age</h2>", shown] if shown else []


def _curves(path: str | Path | None) -> list[str]:
    if path is None:
        return []
    metrics = read_metrics(path)
    if not any(np.isfinite(series.values).any() for series in metrics.values()):
        return []
    shown = picture(draw_curves(metrics), "svg+xml", "Curves of the metrics", dark=draw_curves(metrics, dark=True))
    caption = "Faint: as logged. Strong: mean over neighbouring rows of the log, a fortieth of them to both sides."
    return ["<h2>Curves</h2>", f"<figure>{shown}<figcaption>{caption}</figcaption></figure>"]


def _settings(settings: Mapping[str, Any]) -> list[str]:
    pairs = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in _flat(settings))
    if not pairs:
        return []
    return ["<h2>Settings</h2>", f'<dl class="settings">{pairs}</dl>']


def _flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        elif isinstance(value, (list, tuple)):
            yield f"{before}{name}", ", ".join(str(one) for one in value) or "none"
        else:
            yield f"{before}{name}", "none" if value is None else str(value)


def _versions() -> list[str]:
    versions = {
        "facemtl": __version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "NumPy": np.__version__,
    }
    used = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [f"<footer>Written {datetime.now().astimezone():%Y-%m-%d %H:%M %Z} by {text(used)}.</footer>"]
