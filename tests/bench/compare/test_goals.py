"""The goals of the comparison: what the runs say of each, and the table of them."""

from __future__ import annotations

import pytest

from zwoole.bench.compare.goals import GOALS, LIMIT, Goal, Outcome, outcomes, table
from zwoole.bench.compare.measuring import Run
from zwoole.bench.compare.peer import PEERS
from zwoole.bench.compare.scenarios import SCENARIOS, Scenario
from zwoole.bench.loadtest.plan import IDLE
from zwoole.bench.loadtest.run import LoadResult

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
LONE = BY_NAME["lone"]


def run_at(rate: float, peer: str, round_number: int = 1, scenario: str = "lone") -> Run:
    result = LoadResult(2, int(rate), 1.0, rate, 1.0, {}, {}, 0.5, metered=2.0, client_cpu_share=0.5)
    return Run(round_number, scenario, peer, result)


def of(found: list[Outcome], peer: str, ours: str = "zwoole") -> Outcome:
    return next(one for one in found if (one.goal.peer, one.goal.ours) == (peer, ours))


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: f"{goal.scenario}: {goal.subject}")
def test_a_goal_is_of_servers_that_take_part(goal: Goal) -> None:
    assert goal.ours in BY_NAME[goal.scenario].peers
    assert not goal.peer or goal.peer in BY_NAME[goal.scenario].peers
    assert goal.peer or BY_NAME[goal.scenario].mode == IDLE
    assert goal.bar or goal.peer == LIMIT


def test_every_scenario_with_the_limit_of_the_shape_shows_which_part_of_it_is_reached() -> None:
    assert LIMIT in {peer.name for peer in PEERS}
    assert {goal.scenario for goal in GOALS if goal.peer == LIMIT} == {
        scenario.name for scenario in SCENARIOS if LIMIT in scenario.peers
    }


def test_the_median_of_the_ratios_of_the_rounds_decides() -> None:
    runs = [run_at(100, "gorilla", number) for number in (1, 2, 3)]
    for rates, met in (((54, 55, 90), True), ((10, 54, 90), False)):
        ours = [run_at(rate, "zwoole", number) for number, rate in enumerate(rates, 1)]
        found = of(outcomes([*runs, *ours], [LONE], {}), "gorilla")
        assert found.met is met
        assert found.verdict == ("met" if met else "missed")


def test_a_goal_may_compare_two_of_our_own() -> None:
    runs = [run_at(rate, peer, scenario="echo-16") for peer, rate in (("zwoole", 100), ("zwoole-async", 70))]
    assert of(outcomes(runs, [BY_NAME["echo-16"]], {}), "zwoole", "zwoole-async").values == (0.7,)


@pytest.mark.parametrize(("bytes_per_connection", "met"), [(1150, True), (1151, False)])
def test_idle_connections_have_at_most_so_many_bytes(bytes_per_connection: float, met: bool) -> None:
    result = run_at(0, "zwoole").result
    runs = [Run(1, "idle", "zwoole", result, bytes_per_connection=bytes_per_connection)]
    (found,) = outcomes(runs, SCENARIOS, {})
    assert found.met is met
    assert f" {bytes_per_connection:,.0f} | at most 1,150 |" in table([found])


def test_the_limit_of_the_shape_has_no_bound() -> None:
    found = of(outcomes([run_at(40, "zwoole"), run_at(100, LIMIT)], [LONE], {}), LIMIT)
    assert found.values == (0.4,)
    assert found.met is None
    assert found.verdict == "the limit of the shape"


def test_what_was_not_measured_says_why() -> None:
    runs = [run_at(100, "zwoole"), Run(1, "lone", "gorilla", None, "gorilla did not start: no go")]
    found = outcomes(runs, [LONE], {"swoole": "not installed: pecl install swoole"})
    assert [one.verdict for one in found] == [
        "not measured: gorilla did not start: no go",
        "not measured: swoole is not installed: pecl install swoole",
        f"not measured: {LIMIT} did not take part",
    ]
    assert {one.met for one in found} == {None}


def test_results_of_different_rounds_are_not_compared() -> None:
    found = of(outcomes([run_at(100, "zwoole", 1), run_at(100, "gorilla", 2)], [LONE], {}), "gorilla")
    assert found.verdict == "not measured: no round has both results"


def test_goals_of_scenarios_that_were_not_measured_are_left_out() -> None:
    assert {one.goal.scenario for one in outcomes([run_at(100, "zwoole")], SCENARIOS, {})} == {"lone"}
    assert outcomes([], [LONE, Scenario("other", "", ("zwoole",))], {}) == []


def test_the_table_has_the_spread_the_goal_and_whether_it_is_met() -> None:
    found = Outcome(Goal("lone", "gorilla", 0.55), (0.5, 0.6, 0.7))
    head, rule, row = table([found]).split("\n")
    assert [cell.strip() for cell in row.strip("|").split("|")] == [
        "lone",
        "zwoole / gorilla",
        "0.60 (0.50-0.70)",
        "at least 0.55",
        "met",
    ]
    assert len(head) == len(rule) == len(row)


def test_an_outcome_is_recorded_with_its_bound() -> None:
    assert Outcome(Goal("lone", "gorilla", 0.55), (0.5,)).record() == {
        "scenario": "lone",
        "ours": "zwoole",
        "peer": "gorilla",
        "least": 0.55,
        "most": None,
        "values": [0.5],
        "verdict": "missed",
    }
