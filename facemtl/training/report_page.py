"""The page of a report: one HTML file with everything inside, for laptops and paper, light and dark."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

# Nothing from the network and no script, whatever a name in a settings file may say.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --paper: #ffffff; --panel: #f6f8fa;
  --line: #d1d9e0; --bar: #cfe3fb; --good: #1a7f37; --bad: #b42318; --link: #0969da; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --paper: #0d1117; --panel: #151b23;
  --line: #3d444d; --bar: #16395f; --good: #3fb950; --bad: #ff7b72; --link: #58a6ff; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 70rem; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .7rem; padding-top: .5rem; border-top: 1px solid var(--line); }
p { margin: .5rem 0; max-width: 60rem; }
.soft, figcaption, caption { color: var(--soft); }
.note { background: var(--panel); border-left: 3px solid var(--link); border-radius: 0 6px 6px 0;
  padding: .6rem .9rem; margin: .8rem 0; max-width: 60rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .8rem;
  margin: 1.2rem 0 1rem; }
.tile { background: var(--panel); border: 1px solid var(--line); border-radius: 8px; padding: .7rem .9rem; }
.tile b { display: block; font-size: 1.6rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.tile span { display: block; color: var(--soft); font-size: .86rem; line-height: 1.4; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; padding-top: .5rem; font-size: .88rem; }
th, td { padding: .38rem .65rem; border-bottom: 1px solid var(--line); text-align: right; vertical-align: top; }
thead th { border-bottom: 2px solid var(--line); font-weight: 600; white-space: nowrap; }
th[scope=row], th.text, td.text { text-align: left; }
th[scope=row] { font-weight: 500; white-space: nowrap; }
td.number { white-space: nowrap; }
td.text { color: var(--soft); font-size: .9rem; }
td.bar { background: linear-gradient(to right, var(--bar) var(--share), transparent var(--share));
  background-clip: padding-box; border-left: 6px solid transparent; white-space: nowrap; }
.better { color: var(--good); } .worse { color: var(--bad); }
figure { margin: .5rem 0; overflow-x: auto; }
figure img { max-width: 100%; height: auto; }
figure.grid img { border: 1px solid var(--line); border-radius: 6px; background: #ffffff; }
figcaption { font-size: .88rem; }
details summary { cursor: pointer; color: var(--link); }
dl.settings { columns: 20rem auto; column-gap: 2.5rem; margin: .6rem 0; font-size: .88rem; }
dl.settings div { display: flex; justify-content: space-between; gap: 1rem; break-inside: avoid;
  border-bottom: 1px solid var(--line); padding: .16rem 0; }
dl.settings dt { color: var(--soft); } dl.settings dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media print { body { max-width: none; padding: 0; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


def page(title: str, body: Sequence[str]) -> str:
    """Put sections, HTML already, into a whole page."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            f"<title>{text(title)}</title>",
            f"<style>{_STYLE}</style>",
            "</head>",
            "<body>",
            *body,
            "</body>",
            "</html>",
            "",
        ]
    )


def text(value: object) -> str:
    """Show anything as text: nothing in it is taken for HTML, and bytes that are no text do not stop the page."""
    return html.escape(str(value).encode("utf-8", "replace").decode("utf-8"), quote=True)


def picture(data: bytes, kind: str, description: str, *, dark: bytes | None = None) -> str:
    """Show a picture of the type ``image/kind``, or another one on a dark page."""
    plain = f'<img src="{_data_uri(data, kind)}" alt="{text(description)}">'
    if dark is None:
        return plain
    source = f'<source srcset="{_data_uri(dark, kind)}" media="(prefers-color-scheme: dark)">'
    return f"<picture>{source}{plain}</picture>"


def table(head: Sequence[str], rows: Sequence[str], *, caption: str = "") -> str:
    """Put rows, HTML already, under a head of plain texts; a text in the head that ends in a space stands left."""
    cells = "".join(f'<th scope="col"{_left(name)}>{text(name.strip())}</th>' for name in head)
    below = f"<caption>{text(caption)}</caption>" if caption else ""
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f'<div class="wide"><table>{below}\n<thead><tr>{cells}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'


def share_cell(value: float, shown: str) -> str:
    """A cell with a bar behind its number, of ``value`` (0 to 1) of its width."""
    percent = 100.0 * min(max(value, 0.0), 1.0)
    return f'<td class="bar" style="--share: {percent:.1f}%">{text(shown)}</td>'


def _left(name: str) -> str:
    return ' class="text"' if name.endswith(" ") else ""


def _data_uri(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
