"""Measuring is checked on a clock that only moves when a candidate says so."""

import contextlib
from functools import partial

import pytest

from benchmarks.harness import (
    BenchmarkFlags,
    Candidate,
    Length,
    Measured,
    Reading,
    Steps,
    Target,
    interval,
    measure,
    ratios,
    run_steps,
    verdicts,
)
from benchmarks.results import publish
from tests.benchmarks.result_files import check_result


class Clock:
    """Time that passes only in steps; every step is noted."""

    def __init__(self):
        self.now = 0.0
        self.events = []

    def __call__(self):
        return self.now

    def candidate(self, name, seconds, items=1, **more):
        @contextlib.contextmanager
        def start():
            self.events.append(f"open {name}")

            def step():
                self.events.append(name)
                self.now += seconds
                return items

            yield Steps(step)
            self.events.append(f"close {name}")

        return Candidate(name, partial(run_steps, start), **more)


def repeat(clock, candidates, repetitions=1, **length):
    return measure(candidates, Length(clock=clock, **length), repetitions)


def test_rates_are_items_over_time():
    clock = Clock()
    slow, fast = repeat(
        clock, [clock.candidate("slow", 0.5, 2), clock.candidate("fast", 0.1, 3)], repetitions=3, seconds=1.0
    )
    assert slow.rates == pytest.approx([4.0] * 3)
    assert fast.rates == pytest.approx([30.0] * 3)


def test_warm_up_is_not_measured():
    clock = Clock()

    @contextlib.contextmanager
    def start():
        pace = iter([5.0, *[0.5] * 100])

        def step():
            clock.now += next(pace)
            return 1

        yield Steps(step)

    cold, warm = (Candidate("any", partial(run_steps, start)) for _ in range(2))
    assert repeat(clock, [cold], steps=2)[0].rates == pytest.approx([2 / 5.5])
    assert repeat(clock, [warm], steps=2, warmup=1.0)[0].rates == pytest.approx([2.0])


def test_what_was_done_ahead_is_not_measured():
    clock = Clock()

    @contextlib.contextmanager
    def start():
        pace = iter([0.0, 0.0, 0.0, *[0.5] * 100])

        def step():
            clock.now += next(pace)
            return 1

        yield Steps(step, start=3)

    assert repeat(clock, [Candidate("any", partial(run_steps, start))], steps=2, warmup=1e-9)[0].rates == pytest.approx(
        [2.0]
    )


def test_repetitions_are_interleaved_and_each_begins_with_another():
    clock = Clock()
    names = "abc"
    repeat(clock, [clock.candidate(name, 1.0) for name in names], repetitions=4)
    assert "".join(event for event in clock.events if len(event) == 1) == "abc" + "bca" + "cab" + "abc"
    # one at a time
    assert [event for event in clock.events if " " in event] == [
        f"{what} {name}" for name in "abcbcacababc" for what in ("open", "close")
    ]


def test_a_device_that_runs_behind_is_waited_for():
    clock = Clock()

    def wait():
        clock.now += 9.0

    work = Steps(lambda: 10, wait)
    (one,) = repeat(clock, [Candidate("behind", partial(run_steps, lambda: contextlib.nullcontext(work)))])
    assert one.rates == pytest.approx([10 / 9])
    assert one.figures["host CPU share"] == [pytest.approx(0, abs=0.1)]


def test_work_may_tell_its_time_and_further_figures():
    reading = Reading(10, 4.0, {"share": 0.5})
    (one,) = repeat(Clock(), [Candidate("known", lambda length: reading)], repetitions=2)
    assert one.rates == [2.5, 2.5]
    assert one.figures == {"share": [0.5, 0.5]}


def test_ratios_are_of_the_same_repetition():
    # the machine slows down fourfold, the ratio stays
    assert ratios([80, 40, 20], [40, 20, 10]) == [2, 2, 2]
    measured = [Measured(Candidate(name, Clock), rates) for name, rates in (("a", [80, 40, 20]), ("b", [40, 20, 10]))]
    (row,) = verdicts([Target("t", ("a",), ("b",))], measured, 0)
    assert (row.value, row.low, row.high) == (2, 2, 2)


def test_intervals_are_seeded_and_contain_the_median():
    rates = [9.0, 10.0, 11.0, 12.0, 30.0]
    low, high = interval(rates, 0)
    assert (low, high) == interval(rates, 0)
    assert 9 <= low <= 11 <= high <= 30
    assert low < high


def test_an_absent_package_is_reported_and_the_rest_runs():
    clock = Clock()
    absent = clock.candidate("absent", 1.0, needs=("json", "no_such_package", "no_such.parent"))
    measured = repeat(clock, [absent, clock.candidate("present", 1.0)])
    assert measured[0].absent == "no_such_package, no_such.parent not installed"
    assert measured[0].rates == []
    assert measured[1].rates == [1.0]
    (row,) = verdicts([Target("t", ("absent",), ("present",), 0.9)], measured, 0)
    assert (row.value, row.verdict) == (None, "not measured")
    assert "no_such_package" in row.reason


def test_verdicts():
    clock = Clock()
    measured = repeat(
        clock, [clock.candidate("a", 1.0, 10), clock.candidate("b", 1.0, 20), clock.candidate("c", 1.0, 5)]
    )
    rows = verdicts(
        [
            Target("the fastest counts", ("a", "b"), ("c",), 4.0),
            Target("too slow", ("a",), ("b", "c"), 0.51),
            Target("a rate", ("a",), (), 10.0),
            Target("only shown", ("a",), ("c",)),
            Target("cannot be measured here", ("a",), ("c",), 1.0, unless="no GPU"),
            Target("nothing ran", (), at_least=60, unless="not built"),
        ],
        measured,
        0,
    )
    assert [row.verdict for row in rows] == ["met", "missed", "met", "", "not measured", "not measured"]
    assert [row.value for row in rows] == pytest.approx([4, 0.5, 10, 2, 2, None])
    assert (rows[0].of, rows[0].over, rows[5].reason) == ("b", "c", "not built")


def test_parts_of_one_work_are_taken_in_turn():
    clock = Clock()
    measured = repeat(
        clock,
        [
            *(clock.candidate(f"ours {part}", 1.0, items) for part, items in (("a", 2), ("b", 4), ("c", 4))),
            *(clock.candidate(f"theirs {part}", 1.0, items) for part, items in (("a", 1), ("b", 1), ("c", 2))),
            clock.candidate("absent", 1.0, needs=("no_such_package",)),
        ],
    )
    ours, theirs = ([f"{whose} {part}" for part in "abc"] for whose in ("ours", "theirs"))
    rate, ratio, lacking = verdicts(
        [
            Target("a rate", ours, in_turn=True),
            Target("a ratio", ours, theirs, in_turn=True),
            Target("one is lacking", ours, [*theirs, "absent"], 1.0, in_turn=True),
        ],
        measured,
        0,
    )
    # a second holds one item of 1/2 + 1/4 + 1/4, and one of 1 + 1 + 1/2
    assert (rate.value, ratio.value) == pytest.approx((1.0, 2.5))
    assert ratio.over == "theirs a, then theirs b, then theirs c"
    assert (lacking.value, lacking.verdict) == (None, "not measured")
    assert "no_such_package" in lacking.reason


def test_a_verdict_within_the_noise_says_so():
    measured = [
        Measured(Candidate(name, Clock), rates) for name, rates in (("a", [8.0, 10.0, 13.0]), ("b", [10.0] * 3))
    ]
    (row,) = verdicts([Target("t", ("a",), ("b",), 0.97)], measured, 0)
    assert (row.verdict, row.value) == ("met", 1.0)
    assert "the interval holds the target" in row.reason


def test_limits_hold_in_both_directions():
    measured = [Measured(Candidate("a", Clock), [1.0, 2.0, 3.0])]
    rows = verdicts([Target("t", ("a",), at_most=limit) for limit in (2.0, 1.5)], measured, 0)
    assert [(row.verdict, row.value, row.at_most) for row in rows] == [("met", 2.0, 2.0), ("missed", 2.0, 1.5)]
    assert verdicts([Target("t", ("a",), at_least=2.0, at_most=2.5)], measured, 0)[0].verdict == "met"


def test_results_are_written(tmp_path, capsys):
    clock = Clock()
    measured = repeat(
        clock, [clock.candidate("a", 1.0, 10), clock.candidate("b", 1.0, needs=("no_such_package",), note="a note")]
    )
    flags = BenchmarkFlags(output=tmp_path / "results")
    rows = verdicts([Target("t", ("a",)), Target("u", ("b",), at_most=1.5)], measured, 0)
    assert publish("synthetic", flags, measured, rows, chosen={"size": 3}) == rows
    content = check_result(tmp_path / "results", "synthetic")
    assert content["configuration"]["size"] == 3
    assert content["configuration"]["output"] == "results"
    assert [row["value"] for row in content["rows"]] == [10.0, None]
    page = (tmp_path / "results" / "synthetic.md").read_text()
    assert "did not run: no_such_package not installed" in page
    assert "<= 1.5" in page
    said = capsys.readouterr().out
    assert "| t " in said
    assert said.strip() in page.replace("\n\n\n", "\n\n")
