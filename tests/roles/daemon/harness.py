"""A daemon without a network, to be killed: `python harness.py FOLDER STARTS NAME…`, one process per name,
which appends its pid to the file STARTS/NAME first thing.

Says `ready` with what it adopted, then takes lines `start NAME`, `stop NAME`, `states` on stdin and answers each
with one line of JSON. `busy` starts and stops all of them for ever.
"""

from gevent import monkey

monkey.patch_all(subprocess=False, os=False, signal=False)

import json  # noqa: E402
import random  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402
from gevent.fileobject import FileObject  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.roles.daemon.keeping import Daemon  # noqa: E402

WAIT_S = 20


def say(**answer: object) -> None:
    print(json.dumps(answer), flush=True)


def busy(keeper: object) -> None:
    while True:
        random.choice([keeper.start, keeper.start, keeper.stop, keeper.restart])(WAIT_S)
        gevent.sleep(random.random() * 0.02)


def main() -> None:
    folder, starts, *names = sys.argv[1:]
    daemon = Daemon(Path(folder))
    keepers = {}
    for name in names:
        # A shell, as Python might be stopped before it comes to its first line.
        command = ["sh", "-c", f"echo $$ >> {starts}/{name}; exec sleep 1000"]
        keepers[name] = daemon.keeper(command, name, ready={"spawn": 0.1}, stop_timeout_s=10.0)
    gevent.sleep(0.05)
    say(ready=True, pids={name: keeper.pid for name, keeper in keepers.items()})
    for line in FileObject(sys.stdin.buffer, "rb"):
        verb, *names = line.decode().split()
        if verb == "busy":
            for keeper in keepers.values():
                gevent.spawn(busy, keeper)
        elif verb == "states":
            say(
                **{
                    name: {
                        "state": keeper.state,
                        "wanted": keeper.wanted,
                        "pid": keeper.pid,
                        "exit": keeper.exit,
                        "starts": keeper.starts.pending,
                        "token": keeper.token,
                    }
                    for name, keeper in keepers.items()
                }
            )
        else:
            outcome = getattr(keepers[names[0]], verb)(WAIT_S)
            say(result=outcome.result, detail=outcome.detail, pid=outcome.pid)


if __name__ == "__main__":
    main()
