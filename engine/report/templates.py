"""Templates that become pages which need no other file."""

from __future__ import annotations

import base64
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import yaml


def render_page(template: Path, **values: Any) -> str:
    """Fill a template, whose values are escaped.

    It may include files beside it, and those of this folder: ``base.css`` is what all pages look like.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = data_uri
    environment.filters["yaml"] = partial(yaml.safe_dump, sort_keys=False, allow_unicode=True)
    return environment.get_template(template.name).render(values)


def data_uri(image: bytes, extension: str) -> str:
    """Return an encoded image as an address that holds it; ``extension`` is "jpeg" or "png"."""
    return f"data:image/{extension};base64,{base64.b64encode(image).decode()}"
