import pytest

from agent.messages import PROCESS_COLUMNS, PictureChanged
from agent.outcome import Outcome
from agent.selection import Selection
from agent.table import width
from roles.admin import quantity, reports, status, views
from roles.admin.picture import Change, Picture, Row
from roles.admin.screen import cut, paint
from roles.admin.watch import draw

NOW = 100.0


@pytest.fixture
def picture():
    picture = Picture()
    info = {"cpu": 12.34, "rss": 64 << 20, "players": 7}
    picture.apply(
        PictureChanged(
            at=5000.0,
            regions={"大区1": {}, "s2": {}},
            world=[
                ["大区1", "10.0.0.1", [{"name": "网关1", "type": "gate"}]],
                ["s2", "10.0.0.2", [{"name": "game1"}]],
            ],
            machines=[
                [
                    "10.0.0.1",
                    True,
                    1.0,
                    {
                        "load1": 0.5,
                        "cpus": 2,
                        "mem_total": 4 << 30,
                        "mem_available": 1 << 30,
                        "rival": "10.9.9.9:1",
                    },
                ],
                ["10.0.0.2", False, 200.0, {"skew_s": -600.4, "processes_up": 0, "processes_wanted": 1}],
            ],
            processes=[
                ["大区1.10.0.0.1.网关1", "RUNNING", "up", 4242, 2.0, 3, 4000.0, "", info],
                ["s2.10.0.0.2.game1", "LOST", "up", 0, 200.0, 1, 4000.0, "code 1", {}],
            ],
        ),
        NOW,
    )
    return picture


def test_list_world_counts_by_verdict(picture):
    result = views.world(picture)
    assert result.lines[0].split() == ["REGION", "MACHINES", "PROCESSES", "RUNNING", "LOST"]
    assert result.lines[1].split() == ["s2", "1", "1", "1"]
    assert result.lines[2].split() == ["大区1", "1", "1", "1"]
    assert result.lines[3].split() == ["total", "2", "2", "1", "1"]
    assert result.document["regions"][1] == {
        "region": "大区1", "attributes": {}, "machines": 1, "processes": 1, "verdicts": {"RUNNING": 1},
    }  # fmt: skip
    assert len({width(line) for line in result.lines[1:3]} | {width(result.lines[0])}) <= 3


def test_chinese_names_take_two_cells_and_columns_stay_straight(picture):
    lines = views.processes(picture, picture.select(Selection()), NOW).lines
    begins = {
        width(line[: line.index(word)])
        for line, word in zip(lines, ("VERDICT", "LOST", "RUNNING"), strict=False)
    }
    assert len(begins) == 1, lines


def test_list_machine_says_what_is_out_of_order(picture):
    result = views.machines(picture, picture.ips(), NOW)
    assert "TWO DAEMONS claim this ip (the other at 10.9.9.9:1)" in result.lines[1]
    assert "75% of 4.0G" in result.lines[1] and "0.50/2" in result.lines[1] and "1/1" in result.lines[1]
    assert "NO" in result.lines[2].split() and "clock 10m00s behind" in result.lines[2]
    assert "last report 3m20s ago" in result.lines[2] and "0/1" in result.lines[2]
    assert result.document["machines"][0]["rival"] == "10.9.9.9:1"


def test_a_small_skew_is_not_shown(picture):
    picture.apply(PictureChanged(machines=[["10.0.0.1", True, 1.0, {"skew_s": 1.9}]]), NOW)
    assert "clock" not in views.machines(picture, ["10.0.0.1"], NOW).lines[1]


def test_whether_a_machine_is_online_may_be_unknown(picture):
    picture.apply(PictureChanged(machines=[["10.0.0.1", None, 1.0, {}]]), NOW)
    result = views.machines(picture, ["10.0.0.1"], NOW)
    assert "?" in result.lines[1].split() and "unknown" in result.lines[1] and picture.online() == 0
    assert result.document["machines"][0]["online"] is None


def test_list_ip_shows_everything_asked_for(picture):
    (line,) = views.processes(picture, [picture.row("大区1.10.0.0.1.网关1")], NOW + 3).lines[1:2]
    assert line.split() == ["网关1", "RUNNING", "up", "4242", "16m43s", "12%", "64M", "7", "5s", "3"]


def test_a_process_as_a_document_keeps_its_keys(picture):
    document = views.processes(picture, [picture.row("大区1.10.0.0.1.网关1")], NOW).document["processes"][0]
    assert document == {
        "key": "大区1.10.0.0.1.网关1", "region": "大区1", "ip": "10.0.0.1", "name": "网关1", "type": "gate",
        "verdict": "RUNNING", "wanted": "up", "pid": 4242, "uptime_s": 1000.0, "since_at": 4000.0, "in_state_s": 1000.0,
        "age_s": 2.0, "startcount": 3, "exit": "", "info": {"cpu": 12.34, "rss": 64 << 20, "players": 7},
    }  # fmt: skip


def test_facts_are_read_as_their_names_say():
    entry = views.process(Picture(), Row("大区1.10.0.0.1.g", ""), NOW)
    lines = views.description(
        entry, {"rss": 3 << 20, "cpu_s": 90, "started_at": 1e9, "open files": 12, "exit": "", "n": None}
    )
    assert [line.split()[-1] for line in lines[1:]] == [
        "3.0M",
        "1m30s",
        quantity.moment(1e9).split()[1],
        "12",
    ]
    assert lines[0] == "大区1.10.0.0.1.g"


def test_what_an_old_picture_says_is_marked_and_nothing_in_it_goes_on(picture):
    picture.apply(PictureChanged(trouble="globaldb is away"), NOW + 10)
    rows = [picture.row("大区1.10.0.0.1.网关1")]
    result = views.processes(picture, rows, NOW + 3600)
    assert result.lines[1].split()[1:5] == ["RUNNING?", "up", "4242", "16m40s"]
    assert result.document["processes"][0]["verdict"] == "RUNNING"
    assert (
        "RUNNING?" in views.world(picture).lines[0] and "RUNNING?" in draw(picture, Selection(), NOW, 9)[-1]
    )
    assert [line.split()[2] for line in views.machines(picture, picture.ips(), NOW).lines[1:]] == [
        "yes?",
        "NO?",
    ]
    assert "OLD PICTURE: globaldb is away" in status.line(picture, "10.0.0.1", "", NOW + 30)
    picture.apply(PictureChanged(), NOW + 40)
    assert "RUNNING?" not in views.world(picture).lines[0] and "OLD" not in status.line(picture, "d", "", NOW)


def test_the_uptime_is_the_processs_and_not_its_states(picture):
    row = ["s2.10.0.0.2.game1", "SILENT", "down", 7, 20.0, 1, 4990.0, "", {}, 4000.0]
    picture.apply(PictureChanged(at=5000.0), NOW)
    picture._apply_rows(PictureChanged(processes=[row[: len(PROCESS_COLUMNS)]]), NOW)
    process = picture.row(row[0])._replace(started_at=4000.0)
    assert views.process(picture, process, NOW)["uptime_s"] == 1000.0
    assert views.process(picture, process._replace(started_at=0.0), NOW)["uptime_s"] == 10.0
    assert views.process(picture, process._replace(pid=0), NOW)["uptime_s"] is None


def test_players_are_those_of_a_process_that_runs(picture):
    info = {"players": 24}
    picture.apply(
        PictureChanged(processes=[["s2.10.0.0.2.game1", "STOPPED", "down", 0, 2, 1, 0, "", info]]), NOW
    )
    lines = views.processes(picture, picture.select(Selection()), NOW).lines
    assert "PLAYERS" in lines[0] and "24" not in lines[1] and "7" in lines[2]


def test_problems_of_the_configuration_are_notes(picture):
    picture.problems = ["world:大区1: no list"]
    assert views.world(picture).notes == ["configuration: world:大区1: no list"]


@pytest.mark.parametrize(
    ("results", "code", "told"),
    [
        (["ok", "already"], 0, "start: 1 ok, 1 already"),
        (["ok", "failed", "unknown"], 1, "start: 1 ok, 1 failed, 1 unknown"),
        (["ok", "unknown"], 5, "start: 1 ok, 1 unknown"),
        (["ok", "refused"], 4, "start: 1 ok, 1 refused"),
        (["ok", "curious"], 5, "start: 1 ok, 1 curious"),
    ],
)
def test_outcomes_have_a_line_each_and_a_sum(results, code, told):
    found = [Outcome(f"大区1.10.0.0.1.g{n}", result, "why", n) for n, result in enumerate(results)]
    result = reports.outcomes("start", found)
    assert result.exit_code == code and result.lines[-1] == told
    assert len(result.lines) == len(results) + 2
    assert all(
        word in line for word, line in zip(results, result.lines[1:], strict=False)
    )  # words, not marks alone
    assert result.document["outcomes"][0] == {
        "target": "大区1.10.0.0.1.g0", "region": "大区1", "ip": "10.0.0.1", "name": "g0", "result": results[0],
        "detail": "why", "pid": 0,
    }  # fmt: skip


def test_the_reach_of_a_plan():
    planned = [
        Outcome("大区1.10.0.0.1.a", "ok"),
        Outcome("大区1.10.0.0.2.a", "already"),
        Outcome("大区2.10.0.0.1.a", "ok"),
    ]
    assert reports.reach(planned) == (3, 1, 2)


def test_audit_lines_name_the_first_targets_that_went_wrong():
    bad = [[f"大区1.10.0.0.1.g{n}", "failed", "no port"] for n in range(5)]
    line = {"at": 1e9, "user": "ada", "from": "1.2.3.4:5", "daemon": "10.0.0.1", "what": "start all",
            "verdict": "5 failed", "targets": [["x", "ok", ""], *bad]}  # fmt: skip
    shown = reports.audit([line]).lines[1]
    assert "ada" in shown and "start all" in shown and "5 failed; 大区1.10.0.0.1.g0 failed no port" in shown
    assert shown.endswith("and 2 more")


def test_nobody_who_does_not_answer_is_taken_for_absent():
    result = reports.sessions([["10.0.0.1", "ada", "1.2.3.4:5", 1e9, "0.1"]], ["10.0.0.2"])
    assert result.exit_code == 5 and "no answer from 10.0.0.2" in result.notes[0]
    assert result.document["sessions"][0]["user"] == "ada"


def test_text_from_elsewhere_cannot_steer_the_terminal(picture):
    picture.apply(
        PictureChanged(processes=[["大区1.10.0.0.1.网关1", "RUNNING", "up", 1, 1, 1, 1, "\x1b[2Jx\ny", {}]]),
        NOW,
    )
    result = views.processes(picture, [picture.row("大区1.10.0.0.1.网关1")], NOW)
    assert len(result.lines) == 3 and "\x1b" not in "".join(result.lines)
    (entry,) = result.document["processes"]
    assert "\x1b" not in "".join(views.description(entry | {"key": "a\x1b[31m"}, {"x\x1b": "y\x1b"}))
    assert "\x1b" not in reports.change(Change("k\x1b", None, Row("k", "UP\x1b")), "12:00:00").lines[0]


def test_a_line_is_cut_by_cells_not_by_characters():
    assert cut("大区1 game", 7) == "大区1 …"
    assert cut("大区大区", 6) == "大区…"
    assert cut("大区大区", 8) == "大区大区"
    assert all(width(cut("大a区b" * 20, most)) <= most for most in range(1, 40))


def test_colours_are_for_words_that_stand_alone():
    assert paint("a RUNNING, 1 LOST") == "a \x1b[32mRUNNING\x1b[0m, 1 \x1b[31mLOST\x1b[0m"
    assert paint("大区1.10.0.0.1.LOST") == "大区1.10.0.0.1.LOST"


def test_watch_shows_what_needs_a_look_first_and_says_what_does_not_fit(picture):
    picture.apply(
        PictureChanged(processes=[["a.10.0.0.1.a", "RUNNING", "up"], ["z.10.0.0.1.z", "STOPPED", "up"]]), NOW
    )
    lines = draw(picture, Selection(), NOW, height=5)
    assert "2 more below" in lines[0] and "LOST" in lines[2] and "STOPPED" in lines[3] and len(lines) == 4


def test_the_status_line(picture):
    assert status.line(picture, "10.0.0.1", "", NOW + 2) == (
        "daemon 10.0.0.1 · machines 1/2 up · 1 RUNNING 1 LOST · picture 2s old"
    )
    assert status.line(picture, "10.0.0.1", "lost", NOW + 90).startswith("NOT CONNECTED to daemon 10.0.0.1")
    assert status.line(picture, "10.0.0.1", "lost", NOW + 90).endswith("picture 1m30s old")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0.44, "0.4s"), (59.9, "59s"), (200, "3m20s"), (18_720, "5h12m"), (275_000, "3d04h")],
)
def test_durations(seconds, text):
    assert quantity.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0B"), (512, "512B"), (1536, "1.5K"), (64 << 20, "64M"), (5 << 60, "5120P")]
)
def test_sizes(count, text):
    assert quantity.size(count) == text
