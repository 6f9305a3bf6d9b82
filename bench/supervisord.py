"""A supervisord with as many `sleep`s as our daemon has."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import peer, process
from bench.group import SLEEP, SLEEP_S
from tests.waiting import until


class Supervisord:
    def __init__(self, pid: int, control: list[str]) -> None:
        self.pid = pid
        self._control = control

    def control(self, *words: str) -> float:
        """Seconds that a supervisorctl took."""
        began = time.perf_counter()
        subprocess.run(
            [*self._control, *words], check=True, stdout=subprocess.DEVNULL, env=process.environment()
        )
        return time.perf_counter() - began


@contextmanager
def running(folder: Path, sleeps: int) -> Iterator[Supervisord]:
    programs = peer.supervisor()
    assert programs is not None
    config = folder / "supervisord.conf"
    socket = folder / "supervisor.sock"
    config.write_text(
        f"[unix_http_server]\nfile={socket}\n"
        f"[supervisord]\nlogfile={folder}/supervisord-main.log\npidfile={folder}/supervisord.pid\nnodaemon=true\n"
        f"childlogdir={folder}\nminfds=4096\n"
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
        f"[supervisorctl]\nserverurl=unix://{socket}\n"
        f"[program:sleep]\ncommand={SLEEP} {SLEEP_S}\nprocess_name=sleep%(process_num)d\nnumprocs={sleeps}\n"
        "autostart=false\nstartsecs=0\nautorestart=false\n"
    )
    command = [str(programs / "supervisord"), "-c", str(config)]
    with process.running(command, folder / "supervisord.log") as child:
        until(socket.exists, what="supervisord's socket")
        yield Supervisord(child.pid, [str(programs / "supervisorctl"), "-c", str(config)])
