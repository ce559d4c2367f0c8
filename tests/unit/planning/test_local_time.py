"""How long an experiment takes on this machine: from measured speeds, stage by stage, beside a finished run."""

import dataclasses
import json
from pathlib import Path

import pytest

import planned
from knowshift.configuration import checking
from knowshift.planning import machine_speed
from knowshift.planning.inventory import Inventory
from knowshift.planning.local_presentation import comparison, duration, local_text, measured_seconds
from knowshift.planning.local_time import GROUPS, SNAKEMAKE, TABLE_STARTS, Stage, local_stages, wall_seconds
from knowshift.planning.machine_speed import TYPICAL, MachineSpeed

REPOSITORY = Path(__file__).parents[3]


def stages(speed: MachineSpeed = TYPICAL, **changes) -> dict[str, Stage]:
    """The stages of the tests' own experiment on a machine."""
    content = planned.configuration() | {"results": "nowhere"}
    content["mastery"] = content["mastery"] | changes
    experiment = checking.check(content, REPOSITORY)
    inventory = Inventory(experiment, REPOSITORY)
    models = inventory.models({"smollm2-135m": 1.35e8})
    return {each.rule: each for each in local_stages(experiment, inventory.topics(), models, speed)}


def test_every_rule_has_a_place_and_a_time() -> None:
    placed = {rule for group in GROUPS for rule in group}
    found = stages()
    assert set(found) <= placed and set(TABLE_STARTS) <= placed
    assert all(stage.seconds > 0 for stage in found.values())


def test_time_follows_the_work_and_the_machine() -> None:
    once, twice = stages(), stages(samples=8)
    assert once["probe_mastery"].seconds < twice["probe_mastery"].seconds
    assert once["evaluate"] == twice["evaluate"]
    slow = dataclasses.replace(TYPICAL, products={name: rate / 2 for name, rate in TYPICAL.products.items()})
    assert stages(slow)["evaluate"].seconds > once["evaluate"].seconds
    assert stages(slow)["finetune"].seconds == once["finetune"].seconds  # it uses plain products
    emulated = stages(dtype="bfloat16")["probe_mastery"].seconds
    assert emulated > 2 * stages(dtype="float32")["probe_mastery"].seconds


def test_jobs_beside_one_another_share_the_time_but_the_longest_and_the_order_remain() -> None:
    probing, tables = Stage("probe_mastery", 4, 10 - SNAKEMAKE), Stage("plot", 1, 6 - SNAKEMAKE)
    assert wall_seconds([probing, tables], 1) == pytest.approx(46)
    assert wall_seconds([probing, tables], 2) == pytest.approx(26)
    assert wall_seconds([probing, tables], 100) == pytest.approx(16)


def test_figures_are_kept_for_a_processor_and_a_number_of_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    calls = []

    def measure(jobs: int) -> dict:
        calls.append(jobs)
        return dataclasses.asdict(dataclasses.replace(TYPICAL, start=float(jobs), measured=True))

    monkeypatch.setattr(machine_speed, "_measure_at_once", measure)
    assert machine_speed.stored_speed() == TYPICAL
    assert [machine_speed.machine_speed(jobs).start for jobs in (2, 2, 4)] == [2, 2, 4] and calls == [2, 4]
    assert machine_speed.stored_speed().start == 4
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "NONE_SUCH")
    assert machine_speed.stored_speed() == TYPICAL
    machine_speed.cache_path().write_text("{ broken")
    assert machine_speed.machine_speed(1).start == 1
    (key,) = json.loads(machine_speed.cache_path().read_text())
    machine_speed.cache_path().write_text(json.dumps({key: {"start": 5.0, "no_such_figure": 1.0}}))  # another version's
    assert machine_speed.stored_speed() == TYPICAL and machine_speed.machine_speed(1).start == 1


def test_a_plan_is_compared_with_benchmark_files(tmp_path: Path) -> None:
    for name, seconds in (("a", 10), ("b", 30)):
        path = tmp_path / f"evaluate/{name}.tsv"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"s\th:m:s\n{seconds}\t0:00:10\n")
    measured = measured_seconds(tmp_path)
    assert measured == {"evaluate": [10, 30]}
    text = comparison([Stage("evaluate", 5, 10), Stage("plot", 1, 3)], measured)
    assert [line.split()[-4:] for line in text.splitlines()[1:]] == [
        ["2", "10.0", "20.0", "0.50"],
        ["together", "20", "40", "0.50"],
    ]


def test_the_text_has_the_stages_and_the_whole() -> None:
    text = local_text([Stage("plot", 1, 1), Stage("evaluate", 3, 60)], 2, TYPICAL, "a processor")
    assert "about 2 min, with 2 jobs at once" in text and "all others" in text and "a processor" in text
    assert [duration(seconds) for seconds in (10, 900, 7200, 864000)] == ["1 min", "15 min", "2.0 h", "10 days"]


@pytest.mark.slow
def test_this_machine_is_measured() -> None:
    speed = MachineSpeed(**machine_speed._measure_at_once(1))
    assert speed.measured and 0.2 < speed.start < 600 and 0 < speed.light_start < speed.start
    assert all(1e8 < rate < 1e14 for rate in [*speed.products.values(), *speed.plain_products.values()])
    assert 1e8 < speed.copied < 1e12 and 1e6 < speed.compressed < 1e11
