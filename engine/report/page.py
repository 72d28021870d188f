"""report.html: one page that needs nothing else, for screens of any width, light and dark."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from typing import Any, Final

import yaml

from engine.evaluation.examples import KINDS, Example
from engine.evaluation.metrics import ALL
from engine.report.tables import BODY_HALVES, Table, action_table, joint_table

_STYLE: Final = """
:root { color-scheme: light dark; --page: #f4f5f8; --card: #fff; --text: #1d2129; --faint: #5d6574; --line: #d9dce3;
  --orange: #ff8c00; --blue: #1e88ff; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0f1116; --card: #171a21; --text: #e8eaf0; --faint: #9aa3b5; --line: #2d323d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 72rem; background: var(--page); color: var(--text);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.25; }
h2 { margin: 2.2rem 0 .8rem; font-size: 1.2rem; }
h3 { margin: 1.4rem 0 .5rem; font-size: 1rem; text-transform: capitalize; }
p { margin: .4rem 0; max-width: 48rem; }
img { display: block; width: 100%; height: auto; }
.faint, figcaption { color: var(--faint); font-size: .875rem; }
.tiles, .frames { display: grid; gap: .8rem; }
.tiles { margin-top: 1.2rem; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); }
.pair .tiles { margin: 0; grid-auto-rows: 1fr; align-self: stretch; }
@media (min-width: 68rem) { .pair .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
.frames { grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); }
.card, figure { margin: 0; padding: 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .6rem; }
figure { padding: 0; overflow: hidden; }
figcaption { padding: .5rem .8rem .7rem; }
figcaption b { color: var(--text); }
.tile b { display: block; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums; }
.pair { display: grid; gap: .8rem; margin-top: 1.2rem; grid-template-columns: repeat(2, minmax(0, 1fr));
  align-items: start; }
table { width: 100%; border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .34rem .4rem; text-align: right; border-bottom: 1px solid var(--line); }
td { white-space: nowrap; }
th { font-weight: 600; color: var(--faint); }
th:first-child { text-align: left; }
tbody th { color: var(--text); }
tbody tr:last-child > * { border-bottom: 0; }
tr.all > * { font-weight: 700; }
.predicted, .true { font-weight: 700; }
.predicted::before, .true::before { content: ""; display: inline-block; width: .8em; height: .8em; margin-right: .3em;
  border-radius: 50%; background: var(--orange); }
.true::before { background: var(--blue); }
pre { margin: .6rem 0 0; white-space: pre-wrap; font-size: .8rem; line-height: 1.4; }
summary { cursor: pointer; font-weight: 600; }
@media (max-width: 68rem) {
  .pair { grid-template-columns: minmax(0, 1fr); }
  .pair img { max-width: 36rem; margin: 0 auto; } }
@media (max-width: 60rem) { table { font-size: .8rem; } th, td { padding: .34rem .2rem; } }
@media (max-width: 44rem) {
  .tile b { font-size: 1.4rem; }
  .tiles, .frames { grid-template-columns: repeat(2, minmax(0, 1fr)); }
  .frames { grid-template-columns: minmax(0, 1fr); }
  figure.frame { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); align-items: center; }
  figure.frame figcaption { grid-column: 1 / -1; }
  table { font-size: .9rem; }
  thead { display: none; }
  tbody tr { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); padding: .5rem 0;
    border-bottom: 1px solid var(--line); }
  tbody tr:last-child { border-bottom: 0; }
  tbody th { grid-column: 1 / -1; }
  th, td { padding: .1rem 0; text-align: left; border: 0; }
  td::before { content: attr(data-name); display: block; color: var(--faint); font-size: .75rem; font-weight: 400; } }
"""


def page(
    metrics: dict[str, Any],
    examples: Sequence[tuple[Example, bytes | None, bytes | None]],
    charts: dict[str, tuple[bytes, bytes]],
    run: dict[str, Any],
) -> str:
    """Return the page.

    Args:
        metrics: what metrics.json holds.
        examples: frames with their overlays (JPEG) and 3D views (PNG), None where there is none.
        charts: per_action and per_joint, each as PNG for light and for dark screens; none without poses.
        run: configuration of the run that trained the network.
    """
    about = metrics["evaluation"]
    title = f"{about['checkpoint']} on the {about['split']} split"
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="faint">{escape(_subtitle(metrics))}</p>',
        *(f"<p>{escape(note)}</p>" for note in about["notes"]),
        _beside(charts.get("per_action"), "MPJPE by action", _tiles(metrics)),
        "<h2>By action</h2>",
        _card(action_table(metrics)),
        _legend(metrics),
        "<h2>By joint</h2>",
        _beside(charts.get("per_joint"), "MPJPE by joint", _card(joint_table(metrics))),
        _frames(examples),
        "<h2>How it was made</h2>",
        _settings("This evaluation", {key: value for key, value in about.items() if key != "notes"}),
        _settings("The training run", run),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def _subtitle(metrics: dict[str, Any]) -> str:
    about = metrics["evaluation"]
    parts = (about["stage"], about["backbone"], f"{about['image_size']} px", f"{metrics['frames']:,} frames")
    return ", ".join(part for part in parts if part)


def _tiles(metrics: dict[str, Any]) -> str:
    tiles = []
    if "mpjpe_mm" in metrics:
        ours = metrics["mpjpe_mm"][ALL]
        low, high = metrics["ci95"]["mpjpe_mm"][ALL]
        interval = f"mean distance of a joint, relative to Neck; 95 %: {low:.1f} to {high:.1f}"
        tiles.append(("MPJPE", f"{ours:.1f} mm", interval))
        if "baseline_mpjpe_mm" in metrics:
            mean = metrics["baseline_mpjpe_mm"][ALL]
            tiles.append(("Mean pose", f"{mean:.1f} mm", f"of the training split; ours is {ours / mean:.2f} of it"))
        tiles.append(("PA-MPJPE", f"{metrics['pa_mpjpe_mm']:.1f} mm", "after Procrustes alignment"))
        area = f"of joints nearer than 150 mm; area under the curve {metrics['auc_150mm_percent']:.1f} %"
        tiles.append(("3D-PCK", f"{metrics['pck_150mm_percent']:.1f} %", area))
        tiles.append(("Bone length", f"{metrics['bone_length_error_mm']:.1f} mm", "mean error of a bone"))
        for name, key in BODY_HALVES.items():
            tiles.append((name, f"{metrics[key]:.1f} mm", "MPJPE of its eight joints"))
    if "error_2d_px" in metrics:
        frame = f"{metrics['error_2d_frame_px']:.1f} px of the 1280x800 frame"
        tiles.append(("2D error", f"{metrics['error_2d_px']:.2f} px", f"of the network's image; {frame}"))
    cells = (
        f'<div class="card tile">{escape(name)}<b>{value}</b><span class="faint">{escape(note)}</span></div>'
        for name, value, note in tiles
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def _beside(charts: tuple[bytes, bytes] | None, title: str, content: str) -> str:
    """Return ``content`` with a chart, for light and for dark screens, beside it; below it where there is no room."""
    if charts is None:
        return content
    light, dark = (_embedded(chart, "png") for chart in charts)
    return (
        f'<div class="pair">{content}<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{title}"></picture></figure></div>'
    )


def _card(table: Table) -> str:
    return f'<div class="card">{_table(table)}</div>'


def _legend(metrics: dict[str, Any]) -> str:
    if "mpjpe_mm" not in metrics:
        return ""
    return (
        '<p class="faint">95 %: bootstrap over frames; neighboring frames are alike, so other recordings may well '
        "fall outside. Single and dual branch: Tome et al., ICCV 2019, on the real test set. PCK: joints nearer than "
        "150 mm; AUC: the same averaged over 31 thresholds from 0 to 150 mm. A frame of an action that the paper does "
        "not list counts under All only.</p>"
    )


def _table(table: Table) -> str:
    titles = [escape(column.title) for column in table.columns]
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    lines = []
    for row in table.rows:
        cells = zip(titles, table.cells(row), strict=True)
        figures = "".join(f'<td data-name="{title}">{cell}</td>' for title, cell in cells)
        mark = ' class="all"' if row == ALL else ""
        lines.append(f'<tr{mark}><th scope="row">{escape(row)}</th>{figures}</tr>')
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>"


def _frames(examples: Sequence[tuple[Example, bytes | None, bytes | None]]) -> str:
    parts = [
        "<h2>Frames</h2>",
        '<p><span class="predicted">predicted</span> and <span class="true">true</span>. A predicted pose is placed at '
        "the true neck and projected by the camera's model; beside it the same pose seen from the front and the side, "
        "on the floor.</p>",
    ]
    for kind in KINDS:
        figures = (_figure(*entry) for entry in examples if entry[0].kind == kind)
        parts.append(f'<h3>{kind}</h3><div class="frames">{"".join(figures)}</div>')
    return "\n".join(parts)


def _figure(example: Example, overlay: bytes | None, views: bytes | None) -> str:
    sources = [(overlay, "jpeg", "the frame with both poses"), (views, "png", "both poses in 3D, two views")]
    images = "".join(f'<img src="{_embedded(data, kind)}" alt="{alt}">' for data, kind, alt in sources if data)
    frame = ' class="frame"' if overlay and views else ""
    caption = f"<b>{example.error:.1f} {example.unit}</b> {escape(example.action)}<br>{escape(example.key)}"
    return f"<figure{frame}>{images}<figcaption>{caption}</figcaption></figure>"


def _settings(title: str, values: dict[str, Any]) -> str:
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return f'<details class="card"><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>'


def _embedded(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
