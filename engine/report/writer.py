"""What an evaluation leaves to read: metrics.json, images, and report.html out of page.html.j2."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.evaluation.examples import KINDS, Example
from engine.report.baselines import comparability, sources
from engine.report.charts import DARK, LIGHT, per_action_chart, per_joint_chart
from engine.report.pose_plots import pose_image, poses_chart, view_data
from engine.report.tables import BODY_HALVES, action_table, difference_table, joint_table, published_table
from engine.report.templates import render_page
from engine.report.text import compared, left_out
from engine.visualization import overlay_grid
from loaders.codecs import Image, encode


def write_report(folder: Path, metrics: dict[str, Any], examples: Sequence[Example], run: dict[str, Any]) -> Path:
    """Write everything into ``folder`` and return the page's path.

    Args:
        folder: made if absent.
        metrics: what metrics.json holds.
        examples: in the order in which they are shown.
        run: configuration of the run that trained the network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    if all(example.image is not None for example in examples):
        per_row = max(1, sum(example.kind == examples[0].kind for example in examples))
        labels = [example.label for example in examples]
        (folder / "overlays.png").write_bytes(encode(_overlays(examples, per_row, labels), ".png"))
    charts = {}
    if "mpjpe_mm" in metrics:
        for name, chart in (("per_action", per_action_chart), ("per_joint", per_joint_chart)):
            charts[name] = {"light": chart(metrics, LIGHT), "dark": chart(metrics, DARK)}
            (folder / f"{name}.png").write_bytes(charts[name]["light"])
        (folder / "poses_3d.png").write_bytes(poses_chart(examples, LIGHT))
    path = folder / "report.html"
    path.write_text(_page(metrics, examples, charts, run), encoding="utf-8")
    return path


def _overlays(examples: Sequence[Example], columns: int, labels: Sequence[str] | None = None) -> Image:
    """Return one image of examples that have images, with both poses drawn."""
    return overlay_grid(
        [example.image for example in examples if example.image is not None],
        [example.predicted_2d for example in examples],
        [example.true_2d for example in examples],
        skeleton=examples[0].skeleton,
        columns=columns,
        labels=labels,
    )


def _page(
    metrics: dict[str, Any], examples: Sequence[Example], charts: dict[str, dict[str, bytes]], run: dict[str, Any]
) -> str:
    """Return the page, in which all images are embedded; ``charts`` is empty without poses."""
    return render_page(
        Path(__file__).with_name("page.html.j2"),
        metrics=metrics,
        action_table=action_table(metrics),
        joint_table=joint_table(metrics),
        published_table=published_table(metrics),
        comparability=comparability(metrics),
        sources=sources(),
        difference_table=difference_table(metrics) if "against" in metrics else None,
        compared=compared(metrics["against"]) if "against" in metrics else "",
        left_out=left_out(metrics) if "joints_unseen" in metrics else "",
        charts=charts,
        kinds=KINDS,
        body_halves=BODY_HALVES,
        view=view_data(examples) if charts else None,
        examples=[
            (
                index,
                example,
                None if example.image is None else encode(_overlays([example], 1), ".jpg"),
                None if example.predicted_3d is None else pose_image(example),
            )
            for index, example in enumerate(examples)
        ],
        evaluation_settings={key: value for key, value in metrics["evaluation"].items() if key != "notes"},
        run=run,
    )
