"""When a run validates and ends, as the position of its training loader tells."""

from __future__ import annotations

from dataclasses import dataclass

from loaders import Loader


@dataclass(frozen=True)
class Schedule:
    """Answers for a run that has taken so many ``step``s."""

    loader: Loader
    """The training loader."""
    epochs: int
    """The run ends after so many epochs,"""
    max_steps: int | None
    """or after so many steps."""
    validate_every: int
    """Interval of validations (epochs)."""

    def finished(self, step: int) -> bool:
        """Whether the run has reached its end."""
        return self.loader.epoch >= self.epochs or (self.max_steps is not None and step >= self.max_steps)

    def validation_due(self, step: int, last: int | None) -> bool:
        """Whether to validate now: before the first step, after every so many epochs, at the end.

        Args:
            step: steps so far.
            last: step of the last validation.
        """
        if last == step:
            return False
        epochs = self.loader.progress
        return self.finished(step) or (epochs == int(epochs) and int(epochs) % self.validate_every == 0)

    def steps_left(self, step: int) -> int:
        """Return the number of steps to the end with the present number of processes."""
        epochs_left = self.epochs - self.loader.epoch - 1
        left = max(0, len(self.loader) + epochs_left * self.loader.batches_per_epoch)
        return left if self.max_steps is None else min(left, self.max_steps - step)

    def validations_left(self, step: int, last: int | None) -> int:
        """Return the number of validations from now to the end; the arguments are those of `validation_due`."""
        left = self.steps_left(step)
        epoch_ends = range(len(self.loader), left + 1, self.loader.batches_per_epoch)
        epochs = enumerate(epoch_ends, self.loader.epoch + 1)
        later = {left, *(steps for epoch, steps in epochs if epoch % self.validate_every == 0)} - {0}
        return len(later) + self.validation_due(step, last)

    @property
    def length(self) -> float:
        """Length of the run (epochs)."""
        if self.max_steps is None:
            return self.epochs
        return min(self.epochs, self.max_steps / self.loader.batches_per_epoch)
