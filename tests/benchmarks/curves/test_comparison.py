"""Seconds and images up to the error, over all stages; what is said where a run does not reach it."""

import json

import pytest

from benchmarks.curves.comparison import Goal, Run, compare
from benchmarks.curves.curve import Curve, Point
from benchmarks.harness import Candidate, Measured

STAGES = ("train2d", "train3d", "finetune")
TO_PX = Goal(STAGES[:1], 13.0, "px")
TO_MM = Goal(STAGES, 190.0, "mm")


def run(way, factor=1.0, seed=0):
    """Two seconds of start, then 100 images a second; train2d goes on beyond its end, at 6 seconds."""

    def curve(end, *points):
        found = [Point(factor * seconds, images, error) for seconds, images, error in points]
        return Curve(found, found[end])

    train2d = curve(2, (2, 0, 30), (4, 200, 20), (6, 400, 14), (7, 500, 12.5), (8, 600, 13.5))
    train3d = curve(-1, (2, 0, 300), (12, 1000, 200))
    finetune = curve(-1, (2, 0, 240), (3, 100, 190), (5, 300, 180))
    return Run(way, seed, {"train2d": train2d, "train3d": train3d, "finetune": finetune})


def test_a_reading_of_one_stage():
    reading = run("ours").reading(TO_PX)
    assert reading.items / reading.seconds == 7
    assert reading.figures == {"images": 500, "images/s": pytest.approx(100), "did not reach it": 0}


def test_a_reading_of_all_stages():
    reading = run("ours").reading(TO_MM)
    assert reading.items / reading.seconds == 6 + 12 + 3
    assert reading.figures == {"images": 400 + 1000 + 100, "images/s": pytest.approx(100), "did not reach it": 0}


def test_what_is_not_reached_takes_at_least_as_long_as_it_was_tried():
    reading = run("ours").reading(Goal(STAGES, 170.0, "mm"))
    assert reading.items / reading.seconds == 6 + 12 + 5
    assert reading.figures["did not reach it"] == 1


def test_curves_are_read_as_they_were_written():
    made = run("ours", seed=3)
    assert Run.of(json.loads(json.dumps(made.values()))) == made


def measured(goal, factors):
    found = []
    for way, factor in factors.items():
        readings = [run(way, factor + extra).reading(goal) for extra in (0, 0.5, 1)]
        figures = {name: [reading.figures[name] for reading in readings] for name in readings[0].figures}
        found.append(Measured(Candidate(goal.candidate(way), None), [one.items for one in readings], figures))
    return found


def rows(goal, ours, reference):
    return compare(goal, measured(goal, {"ours": ours, "reference way": reference}), 7.0, 0, at_least=10)


def test_both_ways_side_by_side():
    seconds, with_sharding, rate = rows(TO_PX, 1, 12)
    assert seconds.value == pytest.approx(12.5 / 1.5)
    assert (seconds.low, seconds.high) == pytest.approx((13 / 2, 12))
    assert (seconds.verdict, seconds.of, seconds.over) == ("missed", *map(TO_PX.candidate, ("reference way", "ours")))
    assert with_sharding.value == pytest.approx(7 * 12.5 / (7 * 1.5 + 7))
    assert rate.value == pytest.approx(12.5 / 1.5)
    assert with_sharding.verdict == rate.verdict == ""
    assert rows(TO_PX, 1, 20)[0].verdict == "met"


def test_a_ratio_is_a_least_one_where_the_reference_way_does_not_reach_it():
    goal = Goal(STAGES, 170.0, "mm")
    reference = measured(goal, {"reference way": 20})
    ours = measured(TO_MM, {"ours": 1})
    ours[0] = Measured(Candidate(goal.candidate("ours"), None), ours[0].rates, ours[0].figures)
    seconds, with_sharding, _ = compare(goal, [*ours, *reference], 7.0, 0, at_least=10)
    assert seconds.verdict == "met"
    assert seconds.value == pytest.approx(20.5 * 23 / (1.5 * 21))
    for row in (seconds, with_sharding):
        assert row.reason.startswith("at least: the reference way did not reach it in 3 of 3 runs")
    too_short = compare(goal, [*ours, *measured(goal, {"reference way": 2})], 7.0, 0, at_least=10)[0]
    assert too_short.verdict == "not measured"
    assert "longer --limits" in too_short.reason


def test_the_median_is_known_where_only_a_higher_ratio_is_not():
    ours, reference = measured(TO_PX, {"ours": 1, "reference way": 5})
    highest = max(range(3), key=lambda number: reference.rates[number] / ours.rates[number])
    reference.figures["did not reach it"][highest] = 1.0
    seconds, *_ = compare(TO_PX, [ours, reference], 7.0, 0, at_least=10)
    assert seconds.verdict == "missed"
    assert seconds.reason.startswith("the reference way did not reach it in 1 of 3 runs")


def test_it_is_missed_where_ours_does_not_reach_it():
    seconds, with_sharding, rate = rows(Goal(STAGES, 170.0, "mm"), 1, 20)
    assert (seconds.value, seconds.verdict) == (None, "missed")
    assert seconds.reason == "ours did not reach it in 3 of 3 runs"
    assert with_sharding.value is None
    assert rate.value
