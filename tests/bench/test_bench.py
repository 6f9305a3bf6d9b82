"""Whether the bench runs and judges rightly; how fast anything is, no test says."""

import subprocess
import sys

import pytest

from bench.figure import Figure, alternately, at_least, at_most, side_by_side
from bench.relay_load import agent_data, nats_data, targets


def test_a_row_runs_without_its_peer_and_says_so():
    command = [sys.executable, "-m", "bench", "--quick", "--alone", "--source", "relay"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr
    row = done.stdout.splitlines()[1]
    assert row.startswith("relay, no TLS") and "frames/CPU s" in row and "not measured" in row


@pytest.mark.parametrize(
    ("row", "lines"),
    [
        ("gm", ["GM command round trip, two daemons, p50", "GM command round trip, one daemon, p99"]),
        ("broadcast", ["broadcast to 6 applications on 2 daemons: CPU of the daemon asked"]),
        (
            "poll",
            [
                f"one poll with nothing to do, {language}, {loop}"
                for language in ("C", "lua5.4", "luajit", "Python")
                for loop in ("busy loop", "loop that sleeps 1 ms")
            ],
        ),
    ],
)
@pytest.mark.timeout(120)
def test_a_row_of_applications_runs_beside_its_floor(row, lines):
    command = [sys.executable, "-m", "bench", "--quick", "--source", row]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    for line in lines:
        (found,) = [said for said in done.stdout.splitlines() if said.startswith(line)]
        assert found.count("–") == 0, found


def test_an_unknown_row_is_wrong_usage():
    command = [sys.executable, "-m", "bench", "rely"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 2 and "rely" in done.stderr


@pytest.mark.parametrize(
    ("ratio", "reach", "aim", "verdict"),
    [
        (0.5, at_least(0.6), at_least(1.0), "MISSED"),
        (0.7, at_least(0.6), at_least(1.0), "reached"),
        (1.1, at_least(0.6), at_least(1.0), "aim reached"),
        (4.1, at_most(4), at_most(2), "MISSED"),
        (3.9, at_most(4), at_most(2), "reached"),
        (2.0, at_most(4), at_most(2), "aim reached"),
        (1.2, None, at_most(1), "aim missed"),
        (1.2, None, None, ""),
    ],
)
def test_the_ratio_decides(ratio, reach, aim, verdict):
    assert Figure("it", "s", ratio, "peer", 1.0, reach=reach, aim=aim).verdict == verdict


def test_a_missing_peer_is_no_verdict():
    assert Figure("it", "s", 1.0, "peer", None, reach=at_most(1)).verdict == "not measured"


def test_runs_alternate_and_the_median_of_their_ratios_counts():
    order = []
    ours, theirs = alternately(3, lambda: order.append("a") or 1.0, lambda: order.append("b") or 2.0)
    assert order == ["a", "b"] * 3
    assert side_by_side("it", "s", ours, "peer", theirs).ratio == 0.5
    assert side_by_side("it", "s", [1, 2, 300], "peer", [1, 1, 100]).ratio == 2


def test_both_relays_get_the_same_targets():
    count = 100
    assert len(agent_data(3, count)) / count == pytest.approx(256, abs=3)
    subjects = [int(line.split()[1][1:]) for line in nats_data(3, count).split(b"\r\n") if line[:3] == b"PUB"]
    assert subjects == targets(3, count) and 3 not in subjects
