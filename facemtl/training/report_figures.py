"""Held-out figures as tables of a report."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from facemtl.training.held_out import YEARS_APART, HeldOutFigures
from facemtl.training.report_page import share_cell, table, text

_ABSENT = "–"
_HEADLINES = (
    ("accuracy", "%", "of pairs of unseen people told right"),
    ("age_error", "years", "mean error of the estimated age"),
    ("age_accuracy", "%", "of synthesized faces as old as asked"),
    ("identity_preservation", "", "similarity of face and synthesized face"),
)


class _Figure(NamedTuple):
    """A row of the table."""

    name: str
    value: Callable[[HeldOutFigures], float | None]
    unit: str
    higher_is_better: bool | None
    explained: Callable[[HeldOutFigures], str]


def headline_tiles(figures: HeldOutFigures, baseline: HeldOutFigures | None) -> str:
    """Show the four figures that one looks for first."""
    tiles = []
    for name, unit, meaning in _HEADLINES:
        value = getattr(figures, name)
        if value is None:
            continue
        before = f"untrained: {_shown(getattr(baseline, name), unit)}" if baseline is not None else ""
        tiles.append(
            f'<div class="tile"><b>{text(_shown(value, unit))}</b><span>{text(meaning)}</span>'
            f"<span>{text(before)}</span></div>"
        )
    return f'<div class="tiles">{"".join(tiles)}</div>'


def figures_table(figures: HeldOutFigures, baseline: HeldOutFigures | None) -> str:
    """Show all figures: trained, untrained, the difference, and what each means."""
    head = ["figure ", "trained", *(["untrained", "difference"] if baseline else []), "what it says "]
    rows = []
    for figure in _FIGURES:
        value = figure.value(figures)
        if value is None:
            continue
        cells = [f'<th scope="row">{text(figure.name)}</th>', _number(_shown(value, figure.unit))]
        if baseline:
            other = figure.value(baseline)
            cells += [_number(_shown(other, figure.unit)), _difference(value, other, figure)]
        rows.append("".join([*cells, f'<td class="text">{text(figure.explained(figures))}</td>']))
    return table(head, rows)


def groups_table(figures: HeldOutFigures, baseline: HeldOutFigures | None) -> str:
    """Show what the generator does, target group by target group; nothing if the model has none."""
    if figures.age_accuracy is None:
        return ""
    rows = []
    for name, attribute, unit in (
        ("age accuracy", "age_accuracy", "%"),
        ("identity preservation", "identity_preservation", ""),
        ("pixel change", "pixel_change", "levels"),
    ):
        for whose, one in (("", figures), (", untrained", baseline)):
            if one is None or getattr(one, attribute) is None:
                continue
            values = [*getattr(one, f"{attribute}_by_group"), getattr(one, attribute)]
            largest = 64.0 if unit == "levels" else 1.0
            soft = ' class="soft"' if whose else ""
            cells = [share_cell(value / largest, _shown(value, unit).removesuffix(" levels")) for value in values]
            rows.append(f'<th scope="row"{soft}>{text(name + whose)}</th>{"".join(cells)}')
    caption = (
        f"{figures.synthesized:,} faces, each shown at all {len(figures.group_labels)} ages. Pixel change is the mean "
        "difference from the input in levels of 0 to 255."
    )
    return table(["target age ", *figures.group_labels, "all"], rows, caption=caption)


def _number(shown: str) -> str:
    return f'<td class="number">{text(shown)}</td>'


def _difference(value: float, other: float | None, figure: _Figure) -> str:
    if other is None:
        return _number(_ABSENT)
    change = value - other
    unit = "points" if figure.unit == "%" else figure.unit
    shown = _shown(abs(100 * change if figure.unit == "%" else change), unit)
    if set(shown).isdisjoint("123456789"):
        return _number(shown)  # no difference that the digits show
    shown = f"{'+' if change > 0 else '−'}{shown}"
    if figure.higher_is_better is None:
        return _number(shown)
    better = (change > 0) == figure.higher_is_better
    word = "better" if better else "worse"
    return f'<td class="number {word}" title="{word}">{text(shown)} {"▲" if better else "▼"}</td>'


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return _ABSENT
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit in ("years", "levels", "points"):
        return f"{value:.1f} {unit}"
    return f"{value:.3f}".replace("-", "−")


def _of_pairs(figures: HeldOutFigures) -> str:
    return (
        f"Of {figures.pairs:,} pairs, half of them of one person, at the threshold that was best on the nine other "
        "tenths of the pairs."
    )


def _of_ages(figures: HeldOutFigures) -> str:
    return (
        f"Of {figures.faces_of_known_age:,} faces. Always saying their median age is off by "
        f"{_shown(figures.age_error_of_median, 'years')}."
    )


_FIGURES = (
    _Figure("verification accuracy", lambda one: one.accuracy, "%", True, _of_pairs),
    _Figure(
        "verification AUC",
        lambda one: one.auc,
        "",
        True,
        lambda one: "Chance that a pair of one person is more similar than one of two people; 0.5 is guessing.",
    ),
    _Figure(
        "AUC across ages",
        lambda one: one.auc_across_ages,
        "",
        True,
        lambda one: f"The same, for the {one.pairs_across_ages:,} pairs at least {YEARS_APART:.0f} years apart.",
    ),
    _Figure(
        "similarity, one person",
        lambda one: one.same_person_similarity,
        "",
        None,
        lambda one: "Mean cosine of two faces of one person.",
    ),
    _Figure(
        "similarity, two people",
        lambda one: one.two_people_similarity,
        "",
        None,
        lambda one: "Mean cosine of faces of two people.",
    ),
    _Figure("age error", lambda one: one.age_error, "years", False, _of_ages),
    _Figure(
        "age within 5 years",
        lambda one: one.age_within_5_years,
        "%",
        True,
        lambda one: "Share of faces whose age is estimated so closely.",
    ),
    _Figure(
        "age accuracy of synthesis",
        lambda one: one.age_accuracy,
        "%",
        True,
        lambda one: (
            f"Share of synthesized faces whose age, by the model's own estimate, lies in the target group; "
            f"{100 / len(one.group_labels):.0f} % is what one age for all faces gives."
        ),
    ),
    _Figure(
        "identity preservation",
        lambda one: one.identity_preservation,
        "",
        None,
        lambda one: (
            "Mean cosine of face and synthesized face, by the model's own recogniser: 1 if nothing changes. "
            "Compare with the similarities above."
        ),
    ),
    _Figure(
        "pixel change",
        lambda one: one.pixel_change,
        "levels",
        None,
        lambda one: "Mean difference of face and synthesized face, in levels of 0 to 255.",
    ),
)
