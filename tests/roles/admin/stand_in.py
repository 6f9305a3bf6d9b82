"""A daemon with canned answers: `python -m tests.roles.admin.stand_in PORT FOLDER PASSWORD` until it is killed.

Every user has the password (the tests say "secret words"); user bob may do nothing, user eve may see nothing.
Two regions, three machines, 10.0.0.1 serves both regions. A long audit takes its time.
What becomes of a process when it is started or stopped, its name says: bad, mute, slow, forbidden; others do as asked.
"""

from gevent import monkey

monkey.patch_all(subprocess=False, os=False, signal=False)

import sys  # noqa: E402
import time  # noqa: E402
from pathlib import Path  # noqa: E402

import gevent  # noqa: E402
import scramp  # noqa: E402

from agent import certificate, messages  # noqa: E402
from agent.address import Address  # noqa: E402
from agent.dispatch import SHARED, Table  # noqa: E402
from agent.errors import Refused, StoreDown  # noqa: E402
from agent.handshake import Identity, Verifier  # noqa: E402
from agent.link import Link  # noqa: E402
from agent.listener import Listener  # noqa: E402
from agent.reception import Gate  # noqa: E402
from agent.selection import Selection  # noqa: E402

PASSWORD = "secret words"
PLACES = {
    ("大区1", "10.0.0.1"): ["game1", "game2", "gate1"],
    ("大区1", "10.0.0.2"): ["game1", "bad1", "mute1", "forbidden1"],
    ("大区2", "10.0.0.1"): ["chat1", "slow1"],
    ("大区2", "10.0.0.3"): [],
}
INFO = {
    "load1": 0.5,
    "cpus": 4,
    "cpu_percent": 12.5,
    "mem_total": 16 << 30,
    "mem_available": 8 << 30,
    "skew_s": 4.2,
}
RIVAL = {"10.0.0.2": {"rival": "10.9.9.9:1"}}
SLOW_S = 3.0
RESULTS = {
    "bad": ("failed", "exited with code 3"),
    "mute": ("unknown", "no answer"),
    "forbidden": ("refused", "no right"),
}


class State:
    def __init__(self) -> None:
        now = time.time()
        self.links: list = []
        self.rows: dict[str, list] = {}
        for number, (region, ip, name) in enumerate(
            (region, ip, name) for (region, ip), names in PLACES.items() for name in names
        ):
            info = {"cpu": 1.5, "rss": 64 << 20, "threads": 4, **({"players": 7} if name == "game1" else {})}
            key = f"{region}.{ip}.{name}"
            self.rows[key] = [key, "RUNNING", "up", 100 + number, 1.0, 1, now - 3700, "", info]
        self.rows["大区1.10.0.0.2.game1"][3] = 100  # the pid of another machine's game1
        self.rows["大区2.10.0.0.1.chat1"][1:4] = ["EXITED", "down", 0]
        self.rows["大区2.10.0.0.1.chat1"][7] = "code 1"
        self.silent = self.rows["大区1.10.0.0.2.bad1"]
        self.silent[7] = "signal TERM"

    def select(self, message) -> list[str]:
        selection = Selection(message.region, message.machine, message.name or "*")
        return [key for key in self.rows if selection.matches(*split(key))]


def split(key: str) -> tuple[str, str, str]:
    region, _, rest = key.partition(".")
    ip, _, name = rest.rpartition(".")
    return region, ip, name


TABLE = Table(SHARED)


@TABLE.on(messages.WatchPicture, ask=("admin",))
def watch(state, peer, message):
    if peer.name == "eve":
        peer.notify(messages.PictureChanged(reset=True))
        return messages.PictureBegun(0, 1.0, limited=True)
    selection = Selection(message.region, message.machine, message.name)
    places = [(place, names) for place, names in PLACES.items() if selection.matches_machine(*place)]
    rows = [state.rows[key] for key in state.select(message) if message.pid in (0, state.rows[key][3])]
    wants = message.parts.__contains__
    ips = sorted({place[1] for place, _names in places}) if wants("machines") else []
    world = [[*place, [{"name": name, "type": "t"} for name in names]] for place, names in places]
    peer.notify(messages.PictureChanged(
        at=time.time(), reset=True,
        regions={region: {} for (region, _ip), _names in places},
        world=world if wants("world") else [],
        machines=[[ip, ip != "10.0.0.3", 2.0, INFO | RIVAL.get(ip, {})] for ip in ips],
    ))  # fmt: skip
    if message.pid == state.silent[3]:
        rows = [[state.silent[0], "SILENT", *state.silent[2:]]]
    peer.notify(messages.PictureChanged(at=time.time(), processes=rows if wants("processes") else []))
    if message.follow:
        state.links.append(peer)
    return messages.PictureBegun(len(rows), 1.0)


@TABLE.on(messages.OperateGroup, ask=("admin",))
def operate(state, peer, message):
    keys = [key for key in state.select(message) if message.pid in (0, state.rows[key][3])]
    if peer.name == "bob":
        raise Refused("forbidden", f"user bob may not {message.verb} any of them")
    if not keys:
        raise Refused("unknown_target", "nothing is configured that matches")
    if message.plan:
        return messages.Outcomes(
            [[key, "ok", f"would {message.verb} it", state.rows[key][3]] for key in keys]
        )
    if len({split(key)[1] for key in keys}) > 1 and not message.wide:
        raise Refused("bad_request", "several machines: confirm it")
    return messages.Outcomes([finish(state, peer, message, key) for key in keys])


def finish(state, peer, message, key) -> list:
    name = split(key)[2]
    gevent.sleep(SLOW_S if name.startswith("slow") else 0)
    result, detail = RESULTS.get(name.rstrip("0123456789"), ("ok", ""))
    up = message.verb in ("start", "restart")
    row = state.rows[key]
    if result == "ok":
        if (row[1] == "RUNNING") == up and message.verb != "restart":
            result = "already"
        row[1:4] = ["RUNNING", "up", row[3] or 999] if up else ["STOPPED", "down", 0]
        for link in state.links:
            link.notify(messages.PictureChanged(at=time.time(), processes=[row]))
    for link in state.links:
        if name in ("mute1", "game2"):
            link.notify(messages.PictureChanged(trouble="globaldb is away" if name == "mute1" else ""))
    outcome = [key, result, detail, row[3]]
    peer.notify(messages.TargetFinished(message.command, outcome))
    return outcome


@TABLE.on(messages.DescribeProcess, ask=("admin",))
def describe(state, _peer, message):
    if split(message.key)[2] == "mute1":
        raise Refused("timed_out", "router 10.0.0.9: no answer from 10.0.0.2")
    if split(message.key)[2] == "bad1":
        return messages.ProcessDescription(
            message.key, {"state": "RUNNING", "type": "gameserver", "kernel state": "T"}
        )
    return messages.ProcessDescription(
        message.key, {"state": "RUNNING", "command": "./t --port 1", "rss": 64 << 20}
    )


@TABLE.on(messages.ReadSessions, ask=("admin",))
def sessions(_state, peer, _message):
    return messages.Sessions([["10.0.0.1", peer.name, peer.address, time.time(), "0.1.0"]], ["10.0.0.3"])


@TABLE.on(messages.ReadAudit, ask=("admin",))
def audit(_state, _peer, message):
    if message.count == 2000:
        advice = "(is it running? the URL comes from --globaldb or AGENT_GLOBALDB)"
        raise StoreDown(f"globaldb 10.0.0.9:6379: Connection refused {advice}")
    gevent.sleep(SLOW_S if message.count > 1000 else 0)
    line = {"at": 1700000000.0, "user": "ada", "from": "1.2.3.4:5", "daemon": "10.0.0.1", "what": "stop all",
            "verdict": "1 failed", "targets": [["大区1.10.0.0.2.bad1", "failed", "exited"]]}  # fmt: skip
    return messages.AuditLines([line] * min(message.count, 2))


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    state = State()
    salt, stored, server, rounds = scramp.ScramMechanism("SCRAM-SHA-256").make_auth_info(sys.argv[3])

    def serve(sock, identity, address):
        Link(
            sock,
            local=b"10.0.0.1",
            role=identity.role,
            name=identity.name,
            address=address,
            table=TABLE,
            state=state,
        ).run()

    gate = Gate(
        lambda *_: None, lambda *_: Verifier(salt, stored, server, rounds), lambda *_: None, lambda *_: None
    )
    listener = Listener(
        Address("127.0.0.1", port),
        certificate.own_certificate(folder),
        gate,
        Identity("daemon", "10.0.0.1", "0.1.0", 1),
        serve,
    )
    print(listener.port, flush=True)
    gevent.get_hub().join()


if __name__ == "__main__":
    main()
