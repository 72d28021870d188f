"""Train one stage: ``torchrun --nproc-per-node N engine/train.py --config configs/train2d.yaml ...``."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a file: its folder would shadow the standard library and hide our packages
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from engine.cli.command import OK, command
from engine.cli.error_log import ErrorLog
from engine.config import TrainConfig, parse_train
from engine.distributed import join_processes
from engine.training.forecast import rehearse
from engine.training.trainer import Trainer


@command("train", "Train one stage: train2d, train3d or finetune.", parser=parse_train)
def main(config: TrainConfig) -> int:
    """Train and return the exit status: 0, or 128 + the signal that stopped the run."""
    errors = ErrorLog(None if config.dry_run else config.run_dir)
    with join_processes(config.device, config.distributed.timeout, errors) as process:
        if config.dry_run:
            rehearse(config, process)
            return OK
        trainer = Trainer(config, process)
        errors.begin(lambda: trainer.step)
        try:
            stopped_by = trainer.fit()
        finally:
            trainer.close()
    return 128 + stopped_by if stopped_by else OK


if __name__ == "__main__":
    sys.exit(main())
