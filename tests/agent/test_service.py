"""A role as a process of its own: what it does at signals and when a part of it fails."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import until

ROOT = Path(__file__).parents[2]
PROGRAM = """
from gevent import monkey
monkey.patch_all(subprocess=False, os=False, signal=False)
import sys, gevent
from agent import logs
from agent.service import Service
logs.begin()
service = Service("trial")
def say(word):
    return lambda: print(word, flush=True)
def slow():
    gevent.sleep(60)
def broken():
    raise RuntimeError("broken closer")
service.at_stop(say("closed first-made"))
service.at_stop(broken)
service.at_stop(say("closed last-made"))
def part():
    gevent.sleep(0.05)
    raise RuntimeError("the part broke")
service.spawn(gevent.sleep, 1000)
if "part" in sys.argv: service.spawn(part)
if "slow" in sys.argv: service.at_stop(slow)
if "quick" in sys.argv:
    import agent.service
    agent.service.STOP_S = 0.3
sys.exit(service.run("trial serving here"))
"""


@pytest.fixture
def trial(tmp_path):
    """`trial(*words)`: (process, what it has logged)"""
    started = []

    def start(*words):
        log = tmp_path / f"log{len(started)}"
        with open(log, "wb") as file:
            child = subprocess.Popen(
                [sys.executable, "-c", PROGRAM, *words], cwd=ROOT, stdout=file, stderr=file
            )
        started.append(child)
        if "part" not in words:
            until(lambda: "trial serving here" in log.read_text())
        return child, log.read_text

    yield start
    for child in started:
        child.kill()
        child.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_in_order_and_a_broken_closer_stops_no_other(trial, number):
    child, text = trial()
    child.send_signal(number)
    assert child.wait(10) == 0
    said = text()
    assert said.index("closed last-made") < said.index("broken closer") < said.index("closed first-made")
    assert f"trial: stopping on {number.name}" in said and said.rstrip().endswith("trial stopped")


def test_a_closed_terminal_does_not_end_it(trial):
    child, _text = trial()
    child.send_signal(signal.SIGHUP)
    child.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.3)


def test_a_part_that_fails_stops_the_role_loudly(trial):
    child, text = trial("part")
    assert child.wait(10) == 1
    assert "trial: a part of it failed and it stops" in text() and "the part broke" in text()
    assert "closed last-made" in text()


def test_a_closer_that_hangs_does_not_keep_it_alive(trial):
    child, text = trial("slow", "quick")
    child.terminate()
    assert child.wait(10) == 0
    assert "trial stopped" in text()
