"""Whose `lastupdate` it is: ours, or the application's own, also when writes of ours were lost."""

import itertools
import os
import time
from types import SimpleNamespace
from typing import Any

import pytest

from agent.program import LaunchSpec
from roles.daemon import identity, probe
from roles.daemon.report import Reports

KEY = "大区1.192.168.1.10.game1"


def keeper(report: str = "auto", **launch: Any) -> Any:
    told: list[str] = []
    return SimpleNamespace(
        key=KEY, pid=os.getpid(), incarnation="one", started_at=time.time(), told=told,
        identity=identity.identify(os.getpid()), reported=lambda: told.append("reported"),
        spec=LaunchSpec(command=["game"], report=report, heartbeat_s=0.1, **launch),
        entry=SimpleNamespace(host="127.0.0.3"),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every look at the clock is some milliseconds later than the last one."""
    now = itertools.count(int(time.time() * 1000), 5)
    monkeypatch.setattr(time, "time", lambda: next(now) / 1000)


def beat(reports: Reports, one: Any, stands: str | None) -> dict[str, Any]:
    """One heartbeat, whenever it is due, with `stands` as the lastupdate in globaldb."""
    return reports.fields([one], {KEY: stands}).get(KEY, {})


def test_what_the_application_writes_is_told_from_what_we_wrote() -> None:
    reports, one = Reports(), keeper()
    ours = reports.opening(one)
    assert "lastupdate" in beat(reports, one, ours) and not one.told
    assert set(beat(reports, one, "123.4")) == {"usage"}
    assert one.told == ["reported"]


def test_an_old_record_is_not_taken_for_the_applications_report_when_our_first_write_was_lost() -> None:
    """It was started while globaldb was away; what stands there is from its last run."""
    reports, one = Reports(), keeper()
    assert reports.opening(one)
    reports.in_doubt([KEY])
    assert reports.due([one]) == [one], "and it is looked at at once"
    beat(reports, one, "100.0")
    assert "lastupdate" in beat(reports, one, "100.0")
    assert not one.told


def test_a_heartbeat_that_was_lost_does_not_make_the_one_before_it_a_strangers() -> None:
    reports, one = Reports(), keeper()
    opening = reports.opening(one)
    assert "lastupdate" in beat(reports, one, opening)
    reports.in_doubt([KEY])
    beat(reports, one, opening)
    assert "lastupdate" in beat(reports, one, opening)
    assert not one.told


@pytest.mark.parametrize("stands", ["100.0", None])
def test_doubt_about_our_writes_does_not_forget_that_the_application_reports_itself(
    stands: str | None,
) -> None:
    reports, one = Reports(), keeper()
    reports.opening(one)
    beat(reports, one, "55.5")
    assert one.told
    reports.in_doubt([KEY])
    assert "lastupdate" not in beat(reports, one, stands)


def test_with_report_agent_nothing_but_the_pid_counts() -> None:
    reports, one = Reports(), keeper("agent")
    reports.opening(one)
    assert "lastupdate" in beat(reports, one, "77.7") and not one.told


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, probe.Target]]:
    """What was probed, heartbeat by heartbeat. Nobody serves."""
    asked: list[dict[str, probe.Target]] = []

    def serving(targets: dict[str, probe.Target]) -> dict[str, bool]:
        asked.append(targets)
        return dict.fromkeys(targets, False)

    monkeypatch.setattr(probe, "serving", serving)
    return asked


@pytest.mark.parametrize(
    ("launch", "target"),
    [
        ({"probe": {"port": 7}}, probe.Target("127.0.0.3", 7, "tcp")),
        ({"probe": {"port": 7}, "protocol": "udp"}, probe.Target("127.0.0.3", 7, "udp")),
        (
            {"probe": {"port": 7, "protocol": "tcp"}, "protocol": "udp"},
            probe.Target("127.0.0.3", 7, "tcp"),
        ),
    ],
)
def test_who_does_not_serve_what_is_probed_gets_no_heartbeat(
    probed: list[Any], launch: dict[str, Any], target: probe.Target
) -> None:
    one = keeper("agent", **launch)
    assert beat(Reports(), one, None) == {}
    assert probed == [{KEY: target}]


def test_without_a_probe_nobody_is_asked(probed: list[Any]) -> None:
    assert "lastupdate" in beat(Reports(), keeper("agent"), None)
    assert probed == [{}]


def test_who_is_stopped_or_reports_itself_is_not_probed(probed: list[Any]) -> None:
    stopped, own, reports = keeper("agent", probe={"port": 7}), keeper("self", probe={"port": 7}), Reports()
    stat = stopped.identity.stat()
    stopped.identity = SimpleNamespace(stat=lambda: stat._replace(state="T"))
    assert beat(Reports(), stopped, None) == {}
    assert set(beat(reports, own, None)) == {"usage"}
    assert probed == [{}, {}]
