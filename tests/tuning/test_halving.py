"""The search on a machine that is made up: halving, early stop, budget, going on, seed."""

from __future__ import annotations

import pytest

from tests.tuning.simulated import Machine, search, ways
from zerolane.tuning.halving import SWEEPS, Trail
from zerolane.tuning.setting import Setting


def spread(count: int) -> dict[object, float]:
    """Times of a call that lie 10 % apart; the fastest is in the middle of the list."""
    settings = ways(count)
    order = [*range(count // 2, count), *range(count // 2)]
    return {settings[place]: 1000.0 * 1.1**rank for rank, place in enumerate(order)}


def machine(count: int = 23, **options: object) -> Machine:
    times = spread(count)
    return Machine({s: times[s] for s in ways(count)}, **options)  # type: ignore[arg-type]


def test_the_fastest_is_found_with_a_part_of_the_measurements() -> None:
    here = machine()
    made = search(here, 60)
    assert made.run()
    best = made.ranked(made.alive)[0]
    assert here.true_us[best.setting] == min(here.true_us.values())
    sweeps = 1 + max(s for t in made.trails for s in t.blocks)
    assert len(here.measured) < 0.5 * sweeps * len(here.true_us)


def test_half_is_given_up_after_each_round() -> None:
    here = machine(24, noise=0.0)
    made = search(here, 60)
    assert made.run()
    by_sweep = [sum(sweep in t.blocks for t in made.trails) for sweep in range(4 * SWEEPS)]
    assert by_sweep[0] == by_sweep[SWEEPS - 1] == 24
    assert by_sweep[SWEEPS] in (12, 13)  # the baseline stays in any case
    assert by_sweep[3 * SWEEPS] <= 4


def test_a_noisy_neighbour_hits_all_and_changes_nothing() -> None:
    for seed in range(5):
        here = machine(mood=lambda now: 1.0 + 3.0 * (int(now * 1.7) % 3 == 0), seed=seed)
        made = search(here, 40, seed=seed)
        made.run()
        best = made.ranked(made.alive)[0]
        assert here.true_us[best.setting] <= 1.05 * min(here.true_us.values()), seed


def test_the_hopeless_go_before_the_end_of_a_round() -> None:
    settings = ways(3)
    here = Machine(dict.fromkeys(settings, 1000.0) | {settings[2]: 9000.0}, noise=0.0)
    made = search(here, 20)
    assert made.run()
    slow = made.trails[2]
    assert "surely slower" in slow.dropped
    assert len(slow.blocks) == 7  # seven sweeps lost out of seven: 1 in 128
    assert all(not t.dropped for t in made.trails[:2])  # ties are not told apart by luck


def test_the_baseline_stays_although_it_is_the_slowest() -> None:
    here = machine()
    settings = ways(23)
    here.true_us[settings[0]] = 50_000.0
    made = search(here, 60)
    made.run()
    base = made.trails[0]
    assert not base.dropped
    assert all(s in base.blocks for t in made.trails for s in t.blocks)


@pytest.mark.parametrize("seed", range(5))
def test_one_of_each_artefact_is_measured_first(seed: int) -> None:
    """A budget that ends in the first sweep has tried what it was spent on making."""
    names = ("original", "int8", "fp16")
    settings = [Setting(artefact=name, threads=n) for name in names for n in range(1, 8)]
    here = Machine(dict.fromkeys(settings, 1000.0))
    made = search(here, 0.1, seed=seed)
    assert not made.run()
    assert here.measured[0] == settings[0]
    assert {s.artefact for s in here.measured[:3]} == {*names}


def test_a_first_sweep_is_gone_on_with_and_nothing_measured_twice() -> None:
    here = machine(7)
    made = search(here, 0.01)
    assert not made.run()
    before = [*here.measured]
    assert 0 < len(before) < 7
    more = search(here, 20)
    more.trails = made.trails
    more.run()
    later = here.measured[len(before) :]
    assert not {*later[: 7 - len(before)]} & {*before}


@pytest.mark.parametrize("seconds", [0.001, 0.05, 0.7, 3.0, 20.0])
def test_the_budget_is_kept_up_to_one_step(seconds: float) -> None:
    here = machine(load_s=0.02)
    made = search(here, seconds)
    made.run()
    step = max(b.wall_us for t in made.trails for b in t.blocks.values()) / 1e6 + here.load_s
    assert here.now <= seconds + step
    assert made.trails[0].blocks, "the baseline is measured whatever the budget"


def test_a_budget_used_up_beforehand_leaves_the_baseline() -> None:
    here = machine()
    made = search(here, 1.0)
    here.now = 5.0
    assert not made.run()
    assert here.measured == [made.baseline]


def test_a_budget_too_small_says_so() -> None:
    here = machine(load_s=0.1)
    made = search(here, 1.0)
    assert not made.run()
    assert any(not t.blocks for t in made.trails)


def test_who_breaks_the_limit_of_p99_is_given_up() -> None:
    settings = ways(5)
    times = dict(zip(settings, (1000.0, 500.0, 900.0, 950.0, 980.0), strict=True))
    here = Machine(times, spikes={settings[1]: 0.08})
    made = search(here, 30, p99_us=3000)
    made.run()
    assert "beyond the limit of p99" in made.trails[1].dropped
    assert made.ranked(made.alive)[0].setting == settings[2]


def test_a_baseline_beyond_the_limit_of_p99_drives_nobody_out() -> None:
    settings = ways(3)
    times = dict(zip(settings, (500.0, 900.0, 950.0), strict=True))
    here = Machine(times, spikes={settings[0]: 0.08})
    made = search(here, 30, p99_us=3000)
    made.run()
    assert not made.trails[1].dropped


def test_what_cannot_run_is_left_out_with_its_reason() -> None:
    settings = ways(6)
    here = machine(6, broken=frozenset({settings[4]}))
    made = search(here, 20)
    assert made.run()
    assert (made.trails[4].dropped, made.trails[4].broken) == ("broken here", True)
    assert not any(t.broken for t in made.trails if t.setting != settings[4])


def test_a_broken_baseline_ends_the_search() -> None:
    settings = ways(6)
    here = machine(6, broken=frozenset(settings))
    made = search(here, 20)
    assert not made.run()
    assert made.trails[0].broken
    assert made.alive == []


def test_a_second_run_goes_on_where_the_first_ended() -> None:
    here = machine(load_s=0.05)
    told: list[str] = []
    first = search(here, 1.4, told=told)
    assert not first.run()
    before = len(told)
    kept = [Trail(t.setting, dict(t.blocks), t.dropped, t.broken) for t in first.trails]
    second = search(here, 60, trails=kept, told=told)
    assert second.run()
    assert len(told) == len(set(told)), "nothing is measured twice in a sweep"
    assert len(told) > before
    best = second.ranked(second.alive)[0]
    assert here.true_us[best.setting] == min(here.true_us.values())


def test_the_order_comes_from_the_seed() -> None:
    runs = []
    for seed in (0, 0, 1):
        here = machine()
        made = search(here, 10, seed=seed)
        made.run()
        runs.append(here.measured)
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
