"""report.html, out of page.html.j2."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml

from engine.evaluation.examples import KINDS, Example
from engine.report.tables import action_table, joint_table


def page(
    metrics: dict[str, Any],
    examples: Sequence[tuple[Example, bytes | None, bytes | None]],
    charts: Mapping[str, Mapping[str, bytes]],
    run: dict[str, Any],
) -> str:
    """Return the page.

    Args:
        metrics: what metrics.json holds.
        examples: frames with their overlays (JPEG) and 3D views (PNG), None where there is none.
        charts: per_action and per_joint, each a "light" and a "dark" PNG; none without poses.
        run: configuration of the run that trained the network.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"data_uri": _data_uri, "yaml": _yaml}
    return environment.get_template("page.html.j2").render(
        metrics=metrics,
        action_table=action_table(metrics),
        joint_table=joint_table(metrics),
        charts=charts,
        kinds=KINDS,
        examples=examples,
        evaluation_settings={key: value for key, value in metrics["evaluation"].items() if key != "notes"},
        run=run,
    )


def _data_uri(image: bytes, extension: str) -> str:
    return f"data:image/{extension};base64,{base64.b64encode(image).decode()}"


def _yaml(values: dict[str, Any]) -> str:
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
