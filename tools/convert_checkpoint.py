"""Convert weights between our checkpoints and the reference code's, in either direction.

``python -m tools.convert_checkpoint --input FILE --output FILE``
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from engine.checkpoint import format as checkpoint
from engine.checkpoint import torch_file
from engine.cli.command import OK, Command, command
from engine.loaded_model import describe_reference
from engine.stages import STAGES
from loaders.errors import InputError
from loaders.system.files import appearing
from models import reference_weights
from models.timm_backbone import is_timm


@dataclass(frozen=True, kw_only=True)
class ConvertFlags(Command):
    """Flags of ``tools.convert_checkpoint``."""

    input: Path
    """Checkpoint to convert (path): one of ours becomes one of the reference code, and the other way round."""
    output: Path
    """File to write (path); must not exist."""


@command("tools.convert_checkpoint", "Convert a checkpoint of ours to the reference code's, or the other way round.")
def main(flags: ConvertFlags) -> int:
    """Write the other code's checkpoint, weights alone: neither can resume the other's run."""
    if flags.output.exists():
        raise InputError(f"{flags.output} exists: remove it, or give another output")
    found = checkpoint.load_any(flags.input)
    flags.output.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(found, checkpoint.Checkpoint):
        _check_networks(found, flags.input)
        sections = reference_weights.to_reference(found.weights)
        with appearing(flags.output) as temporary:
            torch_file.write(temporary, sections)
        converted = f"the reference code's dictionary with {' and '.join(sections)}"
    else:
        ours = describe_reference(found, flags.input)
        checkpoint.save(flags.output, ours)
        converted = f"a {ours.stage} checkpoint of this engine, {ours.image_size} px"
    sys.stdout.write(f"{flags.output}: {converted}\n")
    return OK


def _check_networks(found: checkpoint.Checkpoint, path: Path) -> None:
    """Raise InputError for networks that the reference code does not have."""
    model = found.config.get("model", {})
    if found.stage not in STAGES or model.get("network") or is_timm(model.get("backbone", "")):
        raise InputError(
            f"{path} holds a network that the reference code does not have: give a checkpoint of {', '.join(STAGES)} "
            "whose backbone is a ResNet"
        )


if __name__ == "__main__":
    sys.exit(main())
