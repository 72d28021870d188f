"""When a run of epochs of ten steps validates and ends."""

import pytest

from engine.training.schedule import Schedule


class Loader:
    """At a step of epochs of ten batches."""

    batches_per_epoch = 10

    def __init__(self, step):
        self.epoch, self.consumed = divmod(step, 10)
        self.progress = step / 10

    def __len__(self):
        return 10 - self.consumed


@pytest.mark.parametrize(("max_steps", "last"), [(None, 40), (100, 40), (25, 25)])
def test_a_run_ends_after_its_epochs_or_steps(max_steps, last):
    for step in range(41):
        schedule = Schedule(Loader(step), 4, max_steps, validate_every=1)
        assert schedule.finished(step) == (step >= last)
        assert schedule.length == last / 10
        if step <= last:
            assert schedule.steps_left(step) == last - step


def test_validations_come_first_every_so_many_epochs_and_last():
    due = [step for step in range(36) if Schedule(Loader(step), 4, 35, validate_every=2).validation_due(step, None)]
    assert due == [0, 20, 35]
    assert not Schedule(Loader(20), 4, 35, validate_every=2).validation_due(20, last=20)


@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize(("max_steps", "end"), [(None, 40), (25, 25), (30, 30)])
def test_validations_to_come_are_those_that_come(every, max_steps, end):
    """Of runs that begin or go on anywhere, also just before the validation of an epoch that has ended."""
    for start in range(end + 1):
        for last in (None, start):
            count, validated = 0, last
            for step in range(start, end + 1):
                if Schedule(Loader(step), 4, max_steps, every).validation_due(step, validated):
                    count, validated = count + 1, step
            assert Schedule(Loader(start), 4, max_steps, every).validations_left(start, last) == count
