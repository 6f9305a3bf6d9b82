import os
import signal

import gevent
import pytest

from roles.admin.interrupt import Interrupt


@pytest.fixture
def interrupt():
    before = signal.getsignal(signal.SIGINT)
    yield Interrupt()
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_ends_the_wait_and_not_the_greenlet_that_happens_to_run(interrupt):
    def reader():
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # where Python would raise it
            pass
        gevent.sleep(0.05)
        return "lives"

    bystander = gevent.spawn(reader)
    with pytest.raises(KeyboardInterrupt):
        interrupt.run(gevent.sleep, 10)
    assert bystander.get(timeout=5) == "lives"


def test_ctrl_c_wakes_a_program_that_only_sleeps(interrupt):
    gevent.spawn_later(0.05, os.kill, os.getpid(), signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        interrupt.wait(10)


def test_a_ctrl_c_of_before_does_not_end_the_next_wait(interrupt):
    os.kill(os.getpid(), signal.SIGINT)
    gevent.sleep(0.05)
    assert interrupt.run(lambda: 7) == 7
    interrupt.wait(0.01)


def test_values_and_errors_come_out_as_they_are(interrupt, capfd):
    assert interrupt.run(max, 1, 2) == 2
    with pytest.raises(ZeroDivisionError):
        interrupt.run(lambda: 1 / 0)
    assert capfd.readouterr().err == ""  # the hub would print what leaves a greenlet
