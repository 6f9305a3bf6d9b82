import pytest

from agent.messages import PictureChanged
from agent.selection import Selection
from roles.admin.picture import Change, Picture, Row, changes

A, B = "大区1.10.0.0.1.game1", "大区2.10.0.0.1.game1"


def row(key, verdict="RUNNING", pid=7, **more):
    values = {
        "wanted": "up",
        "age_s": 1.0,
        "startcount": 1,
        "since_at": 900.0,
        "exit": "",
        "info": {},
        **more,
    }
    return [
        key,
        verdict,
        values["wanted"],
        pid,
        *(values[name] for name in ("age_s", "startcount", "since_at", "exit", "info")),
    ]


@pytest.fixture
def picture():
    """Two regions, one machine that serves both, one that serves none of a process."""
    picture = Picture()
    picture.apply(
        PictureChanged(
            at=1000.0,
            reset=True,
            regions={"大区1": {"open": True}, "大区2": {}},
            world=[
                [
                    "大区1",
                    "10.0.0.1",
                    [{"name": "game1", "type": "game"}, {"name": "game10"}, {"name": "game2"}],
                ],
                ["大区2", "10.0.0.1", [{"name": "game1"}]],
                ["大区2", "10.0.0.12", []],
            ],
            machines=[["10.0.0.1", True, 2.0, {"load1": 1.0}]],
        ),
        50.0,
    )
    picture.apply(PictureChanged(at=1000.0, processes=[row(A), row(B, "SILENT", 8)]), 50.0)
    return picture


def test_parts_add_up(picture):
    assert picture.ips() == ["10.0.0.1", "10.0.0.12"]
    assert picture.regions_of("10.0.0.1") == ["大区1", "大区2"]
    assert picture.machines_of("大区2") == ["10.0.0.1", "10.0.0.12"]
    assert picture.verdicts() == {"RUNNING": 1, "SILENT": 1, "UNKNOWN": 2}
    assert picture.configured(A) == {"name": "game1", "type": "game"}
    assert picture.online() == 1


def test_a_process_without_a_row_is_shown_as_unknown_and_in_the_order_of_numbers(picture):
    found = picture.select(Selection("大区1"))
    assert [row.key.rpartition(".")[2] for row in found] == ["game1", "game2", "game10"]
    assert [row.verdict for row in found] == ["RUNNING", "UNKNOWN", "UNKNOWN"]


@pytest.mark.parametrize(
    ("selection", "keys"),
    [
        (Selection(machine="10.0.0.1", name="game1"), [A, B]),
        (Selection("大区2"), [B]),
        (Selection("大区?", "10.0.*", "game1"), [A, B]),
        (Selection("大区1,大区2", "*", "gate*"), []),
    ],
)
def test_a_selection_finds_processes_of_several_regions_on_one_machine(picture, selection, keys):
    assert [row.key for row in picture.select(selection)] == keys


def test_pids_are_found_on_any_machine(picture):
    assert [row.key for row in picture.with_pid(8)] == [B]
    assert picture.with_pid(99) == []
    assert picture.pids_on("10.0.0.1") == [7, 8]
    assert picture.pids_on("0.0.0.1") == []


def test_ages_grow_and_uptime_is_told_in_the_groups_time(picture):
    assert picture.row(A).age(53.0) == pytest.approx(4.0)
    assert picture.row(A).lasted(53.0) == pytest.approx(103.0)
    assert Row("k").age(53.0) is None and Row("k").lasted(53.0) is None


def test_a_changed_row_takes_the_place_of_the_old_one(picture):
    before = dict(picture.rows)
    picture.apply(PictureChanged(at=1001.0, processes=[row(A, "DEAD", 0)]), 51.0)
    assert picture.row(A).verdict == "DEAD"
    assert changes(before, picture.rows) == [Change(A, before[A], picture.row(A))]


def test_a_row_that_only_reports_is_no_change(picture):
    before = dict(picture.rows)
    picture.apply(PictureChanged(processes=[row(A, age_s=0.1)]), 51.0)
    assert changes(before, picture.rows) == []


def test_what_is_gone_is_gone(picture):
    before = dict(picture.rows)
    picture.apply(PictureChanged(gone=[A]), 51.0)
    assert A not in picture.rows and A not in list(picture.every_key())
    assert changes(before, picture.rows) == [Change(A, before[A], None)]


def test_a_machine_that_leaves_one_region_stays_in_the_other(picture):
    picture.apply(PictureChanged(world=[["大区1", "10.0.0.1", []]], gone=["10.0.0.1"]), 51.0)
    assert picture.regions_of("10.0.0.1") == ["大区2"]
    assert "10.0.0.1" in picture.machines


def test_a_machine_that_leaves_the_world_is_forgotten(picture):
    picture.apply(PictureChanged(gone=["10.0.0.1", A, B]), 51.0)
    assert picture.ips() == ["10.0.0.12"]
    assert picture.rows == {}


def test_a_machine_without_processes_is_no_machine_that_left(picture):
    picture.apply(PictureChanged(world=[["大区2", "10.0.0.12", []]]), 51.0)
    assert "10.0.0.12" in picture.ips()


def test_reset_empties_what_was_known(picture):
    picture.apply(PictureChanged(reset=True, regions={"大区3": {}}), 51.0)
    assert (
        picture.regions == {"大区3": {}} and not picture.rows and not picture.world and not picture.machines
    )


def test_a_picture_is_complete_when_all_that_is_configured_has_its_row(picture):
    assert not Picture().is_complete() and not picture.is_complete()
    picture.apply(PictureChanged(processes=[row("大区1.10.0.0.1.game10"), row("大区1.10.0.0.1.game2")]), 51.0)
    assert picture.is_complete()


def test_rows_of_older_and_newer_daemons_are_read(picture):
    picture.apply(
        PictureChanged(
            processes=[["大区1.10.0.0.1.old", "STOPPED"], [*row("大区1.10.0.0.1.new"), "more", 1, 2, 3]]
        ),
        51.0,
    )
    assert picture.row("大区1.10.0.0.1.old").pid == 0
    assert picture.row("大区1.10.0.0.1.new").verdict == "RUNNING"


def test_twenty_thousand_processes_are_taken_in_at_once():
    """A picture of the largest group must not hold up a one-shot command (a second here would be a bug)."""
    import time

    picture = Picture()
    rows = [
        row(f"大区{m % 10}.10.0.{m // 250}.{m % 250 + 1}.game{n}") for m in range(1000) for n in range(20)
    ]
    began = time.perf_counter()
    picture.apply(PictureChanged(at=1.0, reset=True, processes=rows), 1.0)
    assert sum(picture.verdicts().values()) == 20_000
    assert len(picture.select(Selection("大区1"))) == 2000
    assert time.perf_counter() - began < 1.0
