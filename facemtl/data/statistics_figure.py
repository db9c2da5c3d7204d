"""A manifest's statistics as a picture, after the paper's supplement."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from facemtl._core.whole_files import stage
from facemtl.data.statistics import GENDERS, ManifestStatistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#c8553d", "#33658a", "#b8b8b8")
_INCHES = (12.0, 4.0)


def draw_statistics(statistics: ManifestStatistics, path: str | Path, *, title: str = "", dpi: int = 120) -> None:
    """Draw ages, age groups by gender, and faces of each person, side by side, into a PNG.

    The same statistics give the same bytes with the same matplotlib, whose settings and windows are left alone.

    Args:
        statistics: Of a manifest, from :func:`facemtl.manifest_statistics`.
        path: File to write, ending in ``.png``; it appears whole or not at all.
        title: Over the picture.
        dpi: Dots an inch; the picture is 12 by 4 inches.

    Raises:
        ValueError: If ``path`` does not end in ``.png``, or ``dpi`` is out of its range.
        ImportError: If matplotlib is missing.
        OSError: If the disk is full, say.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"draw_statistics: 'path' must end in '.png', got {str(path)!r}.")
    if not 10 <= dpi <= 1200:
        raise ValueError(f"draw_statistics: 'dpi' must lie in [10, 1200], got {dpi}.")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.style import context
    except ImportError as error:
        raise ImportError("draw_statistics needs matplotlib. Install it with: pip install 'facemtl[data]'") from error

    data = io.BytesIO()
    with context("default"):
        figure = Figure(figsize=_INCHES, dpi=dpi, layout="constrained")
        ages, groups, people = figure.subplots(1, 3)
        _draw_ages(ages, statistics)
        _draw_groups(groups, statistics)
        _draw_people(people, statistics)
        figure.legend(*groups.get_legend_handles_labels(), loc="outside lower center", ncols=len(GENDERS))
        if title:
            figure.suptitle(title, parse_math=False)
        FigureCanvasAgg(figure).print_png(data, metadata={"Software": None})
    os.replace(stage(data.getvalue(), staging=path.parent), path)


def _draw_ages(axes: Axes, statistics: ManifestStatistics) -> None:
    places, below = np.arange(101), np.zeros(101)
    for gender, colour, counts in zip(GENDERS, _COLOURS, statistics.years.T, strict=True):
        axes.bar(places + 0.5, counts, 1.0, bottom=below, color=colour, label=gender)
        below = below + counts
    unknown = int(statistics.without_age.sum())
    axes.set(xlabel="age in years" + (f" ({unknown:,} unknown)" if unknown else ""), ylabel="faces", xlim=(0, 101))


def _draw_groups(axes: Axes, statistics: ManifestStatistics) -> None:
    places = np.arange(statistics.age_groups.num_groups)
    for column, (gender, colour) in enumerate(zip(GENDERS, _COLOURS, strict=True)):
        if column < 2 or statistics.genders[column]:
            axes.bar(places + 0.27 * (column - 1), statistics.groups[:, column], 0.27, color=colour, label=gender)
    axes.set(xlabel="age group", ylabel="faces", xticks=places)
    axes.set_xticklabels(statistics.age_groups.labels, rotation=45)


def _draw_people(axes: Axes, statistics: ManifestStatistics) -> None:
    from matplotlib.ticker import LogLocator

    sizes, counts = statistics.people.T
    if len(sizes):
        # Bins of equal width on the axis: whole numbers while there are few, then growing by a constant factor.
        edges = np.unique(np.round(np.geomspace(1, sizes[-1] + 1, 30))) - 0.5
        axes.hist(sizes, bins=edges.tolist(), weights=counts, color="#5b5b5b")
        axes.set_xscale("log", subs=[])  # no small ticks: on a short axis their labels would lie over one another
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
    named = statistics.num_faces - statistics.without_identity
    axes.set(xlabel=f"faces a person ({statistics.num_identities:,} people, {named:,} faces)", ylabel="people")
