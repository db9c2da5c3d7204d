"""The metrics of a run as curves."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from facemtl.training.metrics_file import MetricSeries

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_LIGHT = {
    "ink": "#1f2328",
    "faint": "#d0d7de",
    "lines": ("#0969da", "#cf222e", "#1a7f37", "#9a6700", "#8250df", "#57606a"),
}
_DARK = {
    "ink": "#e6edf3",
    "faint": "#3d444d",
    "lines": ("#58a6ff", "#ff7b72", "#3fb950", "#d29922", "#bc8cff", "#9ea7b3"),
}
# Ends of names that are no losses: they have a panel of their own, over all phases.
_SHARED = ("gradient_norm", "learning_rate", "images_per_second")
_POINTS = 400
_DECADES_FOR_LOG, _MOST_DECADES = 1.3, 90.0  # more than those of float32 overflow inside matplotlib


def panels_of(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Say which metrics to draw together: title of each panel, and names of its metrics.

    What stands before the last slash of a name is the phase, and the panel of its losses. Scores are no losses and have
    a panel of their own; learning rates, gradient norms and speeds of all phases have one each.

    Args:
        names: Columns of the file of metrics.

    Example:
        >>> names = ["recognition/age", "recognition/learning_rate", "synthesis/age", "synthesis/real_score"]
        >>> panels = panels_of(names)
        >>> for title, names in panels.items():
        ...     print(title, names)
        recognition ('recognition/age',)
        synthesis ('synthesis/age',)
        synthesis: scores ('synthesis/real_score',)
        learning rate ('recognition/learning_rate',)
    """
    own: dict[str, list[str]] = {}
    shared: dict[str, list[str]] = {}
    for name in names:
        phase, _, last = name.rpartition("/")
        kind = next((ending for ending in _SHARED if last.endswith(ending)), None)
        if kind is not None:
            shared.setdefault(kind.replace("_", " "), []).append(name)
        elif last.endswith("score"):
            own.setdefault(f"{phase}: scores" if phase else "scores", []).append(name)
        else:
            own.setdefault(phase or "metrics", []).append(name)
    return {title: tuple(members) for title, members in (own | shared).items()}


def draw_curves(
    metrics: Mapping[str, MetricSeries], *, panels: Mapping[str, Sequence[str]] | None = None, dark: bool = False
) -> bytes:
    """Draw the curves of a run: a smoothed line over what was measured, a panel for each phase.

    A panel whose values are positive and span more than a factor of twenty has a logarithmic axis. The same metrics
    give the same bytes with the same matplotlib, whose settings and windows are left alone.

    Args:
        metrics: Of :func:`~facemtl.training.metrics_file.read_metrics`; what was never measured is left out.
        panels: Titles, and names of the metrics of each; :func:`panels_of` by default.
        dark: Colours for a dark page. The background is transparent.

    Returns:
        A picture in SVG.

    Raises:
        ValueError: If no metric was measured, or a panel names one that is not there.
        ImportError: If matplotlib is missing.

    Example:
        >>> import numpy as np
        >>> steps = np.arange(1, 101)
        >>> draw_curves({"recognition/identity": MetricSeries(steps, 30.0 / steps)})[:5]
        b'<?xml'
    """
    chosen = _measured_panels(metrics, panels_of(list(metrics)) if panels is None else panels)
    try:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
        from matplotlib.style import context
    except ImportError as error:
        raise ImportError('draw_curves needs matplotlib: pip install "facemtl[train]"') from error

    theme = _DARK if dark else _LIGHT
    columns = 1 if len(chosen) == 1 else 2
    rows = -(-len(chosen) // columns)
    data = io.BytesIO()
    with context(["default", _style(theme)]):
        figure = Figure(figsize=(5.2 * columns, 3.1 * rows), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
        for panel, (title, names) in zip(axes, chosen.items(), strict=False):
            _draw_panel(panel, title, {name: metrics[name] for name in names}, theme["lines"])
        for panel in axes[len(chosen) :]:
            panel.remove()
        figure.patch.set_alpha(0.0)
        FigureCanvasSVG(figure).print_svg(data, metadata={"Date": None, "Creator": None})
    return data.getvalue()


def _measured_panels(
    metrics: Mapping[str, MetricSeries], panels: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    for title, names in panels.items():
        for name in names:
            if name not in metrics:
                raise ValueError(
                    f"draw_curves: 'panels' must name metrics of the run, got {name!r} for {title!r}. They are "
                    f"{', '.join(metrics)}."
                )
    there = {
        title: tuple(name for name in names if np.isfinite(metrics[name].values).any())
        for title, names in panels.items()
    }
    chosen = {title: names for title, names in there.items() if names}
    if not chosen:
        raise ValueError(f"draw_curves: 'metrics' must hold a measured metric, got none in {list(metrics)}.")
    return chosen


def _style(theme: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "svg.hashsalt": "facemtl",  # names of parts inside the picture, else different each time
        "font.size": 9.0,
        "text.color": theme["ink"],
        "axes.labelcolor": theme["ink"],
        "axes.edgecolor": theme["faint"],
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.titlesize": 10.5,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "grid.color": theme["faint"],
        "grid.linewidth": 0.5,
        "xtick.color": theme["faint"],
        "ytick.color": theme["faint"],
        "xtick.labelcolor": theme["ink"],
        "ytick.labelcolor": theme["ink"],
        "legend.frameon": False,
        "legend.fontsize": 8.5,
        "legend.handlelength": 1.2,
        "legend.handletextpad": 0.4,
        "legend.columnspacing": 1.0,
    }


def _draw_panel(axes: Axes, title: str, series: Mapping[str, MetricSeries], colours: Sequence[str]) -> None:
    smoothed = {
        name: values if name.endswith("learning_rate") else _smoothed(values) for name, (_, values) in series.items()
    }
    for place, (name, (steps, values)) in enumerate(series.items()):
        colour = colours[place % len(colours)]
        if smoothed[name] is not values:
            axes.plot(*_thinned(steps, values), color=colour, alpha=0.3, linewidth=0.7)
        marker = "o" if np.isfinite(values).sum() == 1 else ""
        line = _thinned(steps, smoothed[name])
        axes.plot(*line, color=colour, linewidth=1.6, marker=marker, label=_label(name, title))
    if _wants_log(np.concatenate([values for _, values in series.values()]), np.concatenate(list(smoothed.values()))):
        _set_log_axis(axes)
    axes.set_xlabel("step")
    axes.xaxis.set_major_formatter(lambda step, _: f"{step:,.0f}")
    axes.margins(x=0.02)
    handles, labels = axes.get_legend_handles_labels()
    if labels != [title]:  # above the panel, where no curve is
        axes.legend(handles, labels, loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=len(labels))
    axes.set_title(title, parse_math=False, pad=22.0)


def _wants_log(raw: npt.NDArray[np.float64], smoothed: npt.NDArray[np.float64]) -> bool:
    raw, smoothed = raw[np.isfinite(raw)], smoothed[np.isfinite(smoothed)]
    if raw.min() <= 0:
        return False
    return bool(_DECADES_FOR_LOG < np.log10(raw.max()) - np.log10(raw.min()) < _MOST_DECADES) and bool(
        np.log10(smoothed.max()) - np.log10(smoothed.min()) > _DECADES_FOR_LOG
    )


def _set_log_axis(axes: Axes) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set_yscale("log")
    low, high = axes.get_ylim()
    # A short axis would have one number on it, or none.
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if np.log10(high) - np.log10(low) < 3 else (1,)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _label(name: str, title: str) -> str:
    """What tells a metric from the others of its panel: its last part, or its phase where all are of one kind."""
    phase, _, last = name.rpartition("/")
    last = last.replace("_", " ").strip()
    if title.partition(":")[0] == phase:
        return last or title
    return f"{phase} {last.removesuffix(title).strip()}".strip() or title


def _smoothed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Mean over a window about each place, equally wide to both sides; what is not finite is left out of it."""
    count = len(values)
    reach = max(count // 40, min(2, count // 10))
    finite = np.isfinite(values)
    known = np.where(finite, values, 0.0)
    window = np.ones(2 * reach + 1)
    # Not by differences of running sums: one loss of 1e12 would take the digits of all that come after it.
    means = np.convolve(known, window, "same") / np.maximum(np.convolve(finite, window, "same"), 1.0)
    for place in range(reach):  # the window shrinks towards the ends
        for here in (place, count - 1 - place):
            near = slice(here - place, here + place + 1)
            means[here] = known[near].sum() / max(finite[near].sum(), 1)
    return np.where(finite, means, np.nan)


def _thinned(
    steps: npt.NDArray[np.int64], values: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """No more points than a picture can show: the lowest and the highest of each stretch, in their order."""
    if len(values) <= 2 * _POINTS:
        return steps, values
    kept = [0, len(values) - 1]
    for stretch in np.array_split(np.arange(len(values)), _POINTS):
        finite = stretch[np.isfinite(values[stretch])]
        kept += [finite[np.argmin(values[finite])], finite[np.argmax(values[finite])]] if len(finite) else [stretch[0]]
    places = np.unique(kept)
    return steps[places], values[places]
