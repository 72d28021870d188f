"""Metrics in words, for the terminal, and the sentences that the page shares with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.evaluation.intervals import ALL, GROUP_MEAN
from engine.report.baselines import comparability, sources
from engine.report.tables import action_table, difference_table, published_table


def describe(metrics: dict[str, Any]) -> str:
    """Return what an evaluation prints: notes, tables, and how many frames it took how fast."""
    settings = metrics["evaluation"]
    parts = [*settings["notes"], action_table(metrics).to_text(), *_motion(metrics)]
    if "joints_unseen" in metrics:
        parts.append(left_out(metrics))
    if "mpjpe_mm" in metrics:
        table = published_table(metrics, groups=(ALL, GROUP_MEAN))
        parts += [comparability(metrics), *([table.to_text(), f"sources: {sources()}"] if table else [])]
    if "against" in metrics:
        parts += [compared(metrics["against"]), difference_table(metrics).to_text()]
    parts.append(
        f"{metrics['frames']:,} frames of the {settings['split']} split, {settings['images_per_second']:,.0f} images/s"
    )
    return "\n".join(parts)


def left_out(metrics: dict[str, Any]) -> str:
    """Say which joints have no 2D error."""
    outside, unseen = metrics["joints_outside_image"], metrics["joints_unseen"]
    return (
        f"2D errors leave out {outside + unseen:,} of {outside + unseen + metrics['joints_in_image']:,} joints: "
        f"{outside:,} outside the image, {unseen:,} not shown by the lens."
    )


def compared(against: dict[str, Any]) -> str:
    """Say what a comparison is, and what it leaves out."""
    said = (
        f"This checkpoint minus {Path(against['table']).parent}, frame by frame: below 0 this one is better; in "
        f"brackets the 95 % interval. {against['frames']:,} frames of {against['recordings']:,} recordings"
    )
    alone = [("here", against["frames_only_here"]), ("there", against["frames_only_there"])]
    return said + "".join(f"; {count:,} only {place}, left out" for place, count in alone if count) + "."


def _motion(metrics: dict[str, Any]) -> list[str]:
    parts = {
        "acceleration_error_mm_per_frame2": "acceleration error {:.2f} mm/frame^2",
        "jitter_mm_per_frame3": "jitter {:.2f} mm/frame^3",
        "true_jitter_mm_per_frame3": "of the true poses {:.2f}",
    }
    said = [text.format(metrics[key]) for key, text in parts.items() if key in metrics]
    return [f"consecutive frames: {', '.join(said)}"] if said else []
