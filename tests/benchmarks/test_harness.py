"""Measuring is checked on a clock that only moves when a candidate says so."""

import contextlib

import pytest

from benchmarks import plot
from benchmarks.harness import BenchmarkFlags, Candidate, Measured, Session, Target, Timed, judge, measure
from benchmarks.results import Projection, publish
from benchmarks.statistics import median_interval, median_ratio, ratio_interval
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

            yield Session(step)
            self.events.append(f"close {name}")

        return Candidate(name, start, **more)


def laps(clock, candidates, **settings):
    return measure(candidates, clock=clock, **({"rounds": 1, "lap": 0.0, "warmup": 0.0} | settings))


def test_rates_are_items_over_time():
    clock = Clock()
    slow, fast = laps(clock, [clock.candidate("slow", 0.5, 2), clock.candidate("fast", 0.1, 3)], rounds=3, lap=1.0)
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

        yield Session(step)

    cold, warm = Candidate("any", start), Candidate("any", start)
    assert laps(clock, [cold], steps=2)[0].rates == pytest.approx([2 / 5.5])
    assert laps(clock, [warm], steps=2, warmup=1.0)[0].rates == pytest.approx([2.0])


def test_what_was_done_ahead_is_not_measured():
    clock = Clock()

    @contextlib.contextmanager
    def start():
        pace = iter([0.0, 0.0, 0.0, *[0.5] * 100])

        def step():
            clock.now += next(pace)
            return 1

        yield Session(step, start=3)

    assert laps(clock, [Candidate("any", start)], steps=2, warmup=1e-9)[0].rates == pytest.approx([2.0])


def test_rounds_are_interleaved_and_each_begins_with_another():
    clock = Clock()
    names = "abc"
    laps(clock, [clock.candidate(name, 1.0) for name in names], rounds=4)
    assert "".join(event for event in clock.events if len(event) == 1) == "abc" + "bca" + "cab" + "abc"
    # one at a time
    assert [event for event in clock.events if " " in event] == [
        f"{what} {name}" for name in "abcbcacababc" for what in ("open", "close")
    ]


def test_a_device_that_runs_behind_is_waited_for():
    clock = Clock()

    def wait():
        clock.now += 9.0

    session = Session(lambda: 10, wait)
    (one,) = laps(clock, [Candidate("behind", lambda: contextlib.nullcontext(session))])
    assert one.rates == pytest.approx([10 / 9])


def test_time_known_better_counts():
    clock = Clock()
    session = Session(lambda: Timed(10, 4.0), figures=lambda: {"share": 0.5})
    (one,) = laps(clock, [Candidate("known", lambda: contextlib.nullcontext(session))], rounds=2)
    assert one.rates == [2.5, 2.5]
    assert one.figures == {"share": [0.5, 0.5]}


def test_ratios_are_of_the_same_round():
    # the machine slows down fourfold, the ratio stays
    assert median_ratio([80, 40, 20], [40, 20, 10]) == 2
    assert ratio_interval([80, 40, 20], [40, 20, 10], 0) == (2, 2)


def test_intervals_are_seeded_and_contain_the_median():
    rates = [9.0, 10.0, 11.0, 12.0, 30.0]
    low, high = median_interval(rates, 0)
    assert (low, high) == median_interval(rates, 0)
    assert 9 <= low <= 11 <= high <= 30
    assert low < high


def test_an_absent_package_is_reported_and_the_rest_runs():
    clock = Clock()
    absent = clock.candidate("absent", 1.0, needs=("json", "no_such_package", "no_such.parent"))
    measured = laps(clock, [absent, clock.candidate("present", 1.0)])
    assert measured[0].absent == "no_such_package, no_such.parent not installed"
    assert measured[0].rates == []
    assert measured[1].rates == [1.0]
    (row,) = judge([Target("t", ("absent",), ("present",), 0.9)], measured, 0)
    assert (row.value, row.verdict) == (None, "not measured")
    assert "no_such_package" in row.reason


def test_verdicts():
    clock = Clock()
    measured = laps(clock, [clock.candidate("a", 1.0, 10), clock.candidate("b", 1.0, 20), clock.candidate("c", 1.0, 5)])
    rows = judge(
        [
            Target("the fastest counts", ("a", "b"), ("c",), 4.0),
            Target("too slow", ("a",), ("b", "c"), 0.51),
            Target("a rate", ("a",), (), 10.0),
            Target("only shown", ("a",), ("c",)),
            Target("cannot be judged here", ("a",), ("c",), 1.0, "no GPU"),
            Target("nothing ran", at_least=60, unless="not built"),
        ],
        measured,
        0,
    )
    assert [row.verdict for row in rows] == ["met", "missed", "met", "", "not measured", "not measured"]
    assert [row.value for row in rows] == pytest.approx([4, 0.5, 10, 2, 2, None])
    assert (rows[0].of, rows[0].over, rows[5].reason) == ("b", "c", "not built")


def test_parts_of_one_work_are_taken_in_turn():
    clock = Clock()
    measured = laps(
        clock,
        [
            *(clock.candidate(f"ours {part}", 1.0, items) for part, items in (("a", 2), ("b", 4), ("c", 4))),
            *(clock.candidate(f"theirs {part}", 1.0, items) for part, items in (("a", 1), ("b", 1), ("c", 2))),
            clock.candidate("absent", 1.0, needs=("no_such_package",)),
        ],
    )
    ours, theirs = ([f"{whose} {part}" for part in "abc"] for whose in ("ours", "theirs"))
    rate, ratio, lacking = judge(
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
    (row,) = judge([Target("t", ("a",), ("b",), 0.97)], measured, 0)
    assert (row.verdict, row.value) == ("met", 1.0)
    assert "the interval holds the target" in row.reason


def test_results_are_written(tmp_path, capsys):
    clock = Clock()
    measured = laps(clock, [clock.candidate("a", 1.0, 10), clock.candidate("b", 1.0, needs=("no_such_package",))])
    flags = BenchmarkFlags(output=tmp_path / "results")
    projections = [Projection("all of it", 2.5, "hours", "nothing changes")]
    publish("synthetic", flags, measured, [Target("t", ("a",))], chosen={"size": 3}, projections=projections)
    content = check_result(tmp_path / "results", "synthetic")
    assert content["configuration"]["size"] == 3
    assert content["configuration"]["output"] == "results"
    page = (tmp_path / "results" / "synthetic.md").read_text()
    assert "did not run: no_such_package not installed" in page
    assert "Projection, not measured: all of it: 2.5 hours, if nothing changes." in page
    assert "| t " in capsys.readouterr().out
    image = tmp_path / "results" / "synthetic.png"
    image.unlink()
    assert plot.main(["--result", str(tmp_path / "results" / "synthetic.json")]) == 0
    assert image.exists()


@pytest.mark.parametrize("content", [None, "{}", "no JSON", "[]"])
def test_plot_refuses_what_is_no_result(tmp_path, content, capsys):
    path = tmp_path / "result.json"
    if content is not None:
        path.write_text(content)
    assert plot.main(["--result", str(path)]) == 2
    assert str(path) in capsys.readouterr().err
