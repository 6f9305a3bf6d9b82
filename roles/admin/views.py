"""The `list` commands: a picture -> rows -> text and a document. Pure; monotonic `now` is passed in.

Every function returns a Result. Keys of a document are a contract with users' scripts: add some, rename none.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from agent.names import split_key
from agent.table import safe
from roles.admin import quantity
from roles.admin.fold import table
from roles.admin.picture import MachineRow, Picture, Row, verdict_order
from roles.admin.result import Result

SKEW_SHOWN_S = 2.0
ONLINE = {True: "yes", False: "NO", None: "?"}
OLD = "?"  # behind what was so when the picture was new


# ---- list world ---------------------------------------------------------------------------------------------------


def world(picture: Picture) -> Result:
    """Regions with machines, processes and counts by verdict."""
    by_region: dict[str, list[Row]] = {region: [] for region in picture.regions}
    for key in picture.every_key():
        by_region.setdefault(key.partition(".")[0], []).append(picture.row(key))
    regions = [_region(picture, region, rows) for region, rows in sorted(by_region.items())]
    counts = picture.verdicts()
    total = {"machines": len(picture.ips()), "processes": sum(counts.values()), "verdicts": _ordered(counts)}
    document = {"regions": regions, "total": total, "problems": picture.problems}
    shown = sorted(counts, key=verdict_order)
    rows = [_world_line(entry["region"], entry, shown) for entry in regions]
    if len(regions) > 1:
        rows.append(_world_line("total", total, shown))
    headers = [verdict + _mark(picture) for verdict in shown]
    lines = table(rows, ["REGION", "MACHINES", "PROCESSES", *headers], "<" + ">" * (2 + len(shown)))
    if not lines and picture.limited:
        lines = [
            'there is nothing that you may list; an administrator adds: agent user grant NAME "list on …"'
        ]
    lines = lines or ["the world is empty; one is loaded by: agent world import FILE"]
    return Result(lines, document, 0, _problems(picture))


def _region(picture: Picture, region: str, rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "region": region,
        "attributes": picture.regions.get(region, {}),
        "machines": len(picture.machines_of(region)),
        "processes": len(rows),
        "verdicts": _ordered(picture.verdicts(rows)),
    }


def _world_line(name: str, entry: dict[str, Any], verdicts: Sequence[str]) -> list[str]:
    counts = [str(entry["verdicts"].get(verdict, "")) for verdict in verdicts]
    return [name, str(entry["machines"]), str(entry["processes"]), *counts]


# ---- list machine -------------------------------------------------------------------------------------------------


def machines(picture: Picture, ips: Iterable[str], now: float) -> Result:
    """Machines with load, memory, processes up and wanted, and what is out of order with them."""
    entries = [_machine(picture, ip, now) for ip in ips]
    rows = [_machine_line(entry, _mark(picture)) for entry in entries]
    headers = ["IP", "REGIONS", "ONLINE", "LOAD", "CPU", "MEMORY", "DISK", "UP/WANTED", "VERSION", "NOTE"]
    lines = table(rows, headers, "<<<>>>>><<")
    return Result(lines, {"machines": entries, "problems": picture.problems}, 0, _problems(picture))


def _machine(picture: Picture, ip: str, now: float) -> dict[str, Any]:
    machine = picture.machines.get(ip) or MachineRow(ip)
    info = machine.info or {}
    rows = [row for row in picture.rows.values() if f".{ip}." in row.key]
    return {
        "ip": ip,
        "regions": picture.regions_of(ip),
        "online": machine.online,
        "age_s": _rounded(machine.age(now)),
        "processes_up": info.get("processes_up", sum(row.pid > 0 for row in rows)),
        "processes_wanted": info.get("processes_wanted", sum(row.wanted == "up" for row in rows)),
        "rival": str(info.get("rival") or ""),
        "info": info,
    }


def _machine_line(entry: dict[str, Any], mark: str) -> list[str]:
    info = entry["info"]
    load, cpus = info.get("load1"), info.get("cpus")
    return [
        entry["ip"],
        " ".join(entry["regions"]),
        ONLINE[entry["online"]].removesuffix(mark) + mark,
        "" if load is None else f"{load:.2f}" + (f"/{cpus}" if cpus else ""),
        _told(info, "cpu_percent", quantity.percent),
        _used(info, "mem_total", "mem_available"),
        _used(info, "disk_total", "disk_free"),
        f"{entry['processes_up']}/{entry['processes_wanted']}",
        info.get("version", ""),
        _machine_note(entry),
    ]


def _machine_note(entry: dict[str, Any]) -> str:
    notes = []
    if entry["rival"]:
        where = f" (the other at {entry['rival']})" if ":" in entry["rival"] else ""
        notes.append(f"TWO DAEMONS claim this ip{where}: stop one")
    skew_s = entry["info"].get("skew_s") or 0.0
    if abs(skew_s) > SKEW_SHOWN_S:
        notes.append(f"clock {quantity.duration(abs(skew_s))} {'ahead' if skew_s > 0 else 'behind'}")
    if entry["online"] is None:
        notes.append("online or not is unknown: the daemon asked has no link to the router")
    if not entry["online"]:
        age_s = entry["age_s"]
        notes.append("never seen" if age_s is None else f"last report {quantity.duration(age_s)} ago")
    return "; ".join(notes)


def _used(info: dict[str, Any], total_key: str, free_key: str) -> str:
    total, free = info.get(total_key), info.get(free_key)
    if not total or free is None:
        return ""
    return f"{100 * (total - free) / total:.0f}% of {quantity.size(total)}"


# ---- list IP ------------------------------------------------------------------------------------------------------


def processes(picture: Picture, rows: Sequence[Row], now: float) -> Result:
    """Processes with verdict, pid, uptime, cpu, memory, age of the last report, startcount."""
    entries = [process(picture, row, now) for row in rows]
    verdicts = _ordered(picture.verdicts(rows))
    document = {"processes": entries, "verdicts": verdicts, "problems": picture.problems}
    lines = process_lines(entries, old=bool(picture.trouble))
    return Result([*lines, _summary(verdicts)], document, 0, _problems(picture))


def process(picture: Picture, row: Row, now: float) -> dict[str, Any]:
    """One process as a document."""
    region, ip, name = split_key(row.key)
    configured = picture.configured(row.key)
    known = picture.until(now)  # nothing is known to go on after that
    return {
        "key": row.key,
        "region": region,
        "ip": ip,
        "name": name,
        "type": configured.get("type", ""),
        "verdict": row.verdict,
        "wanted": row.wanted,
        "pid": row.pid,
        "uptime_s": _rounded(row.uptime(known)),
        "since_at": row.since_at,
        "in_state_s": _rounded(row.lasted(known)),
        "age_s": _rounded(row.age(now)),
        "startcount": row.startcount,
        "exit": row.exit,
        "info": row.info or {},
    }


def process_lines(entries: Sequence[dict[str, Any]], *, old: bool = False) -> list[str]:
    """Region and ip are columns only where they differ; players only where a process says how many."""
    columns = ["NAME", "VERDICT", "WANTED", "PID", "UPTIME", "CPU", "MEMORY", "REPORT", "STARTS", "EXIT"]
    align = "<<<>>>>>><"
    several_ips = len({entry["ip"] for entry in entries}) > 1
    several_regions = len({entry["region"] for entry in entries}) > 1
    with_players = any("players" in entry["info"] for entry in entries)
    rows = [_process_line(entry, OLD if old else "") for entry in entries]
    if with_players:
        columns.insert(7, "PLAYERS")
        align = align[:7] + ">" + align[7:]
        for row, entry in zip(rows, entries, strict=True):
            row.insert(7, entry["info"].get("players") if entry["pid"] else "")
    if several_ips or several_regions:
        columns, align = ["REGION", "IP", *columns], "<<" + align
        rows = [[entry["region"], entry["ip"], *row] for row, entry in zip(rows, entries, strict=True)]
    return table(rows, columns, align)


def _process_line(entry: dict[str, Any], mark: str) -> list[str]:
    info, age_s, uptime_s = entry["info"], entry["age_s"], entry["uptime_s"]
    return [
        entry["name"],
        entry["verdict"] + mark,
        entry["wanted"],
        str(entry["pid"] or ""),
        "" if uptime_s is None else quantity.duration(uptime_s),
        _told(info, "cpu", quantity.percent) if entry["pid"] else "",
        _told(info, "rss", quantity.size) if entry["pid"] else "",
        "" if age_s is None else quantity.duration(age_s),
        str(entry["startcount"]),
        entry["exit"].removeprefix(f"process {entry['key']}: "),
    ]


def _summary(verdicts: dict[str, int]) -> str:
    counts = ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items())
    if not counts:
        return "no processes are configured there"
    return f"{quantity.count(sum(verdicts.values()), 'process')}: {counts}"


# ---- list PID -----------------------------------------------------------------------------------------------------


def description(entry: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """Everything about one process: the verdict, which the picture knows, then `facts`, which come from its daemon;
    without them what else the picture knows."""
    told = {
        **{key: entry[key] or "" for key in ("verdict", "wanted", "pid")},
        "uptime": "" if entry["uptime_s"] is None else quantity.duration(entry["uptime_s"]),
        "last report": "" if entry["age_s"] is None else f"{quantity.duration(entry['age_s'])} ago",
        "last exit": entry["exit"],
        "type": entry["type"],
    }
    shown = told | (facts or {"startcount": entry["startcount"], **entry["info"]})
    rows = [[name, _fact(name, value)] for name, value in shown.items() if value not in (None, "")]
    return [safe(entry["key"]), *table(rows, before="  ")]


def _fact(name: str, value: Any) -> str:
    """A value as its name says it is to be read."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if name.endswith("_at"):
            return quantity.moment(value)
        if name.endswith("_s"):
            return quantity.duration(value)
        if name == "rss":
            return quantity.size(value)
    if name == "kernel state" and value in KERNEL_STATES:
        return f"{value} ({KERNEL_STATES[value]})"
    return _readable(value)


# of /proc/PID/stat
KERNEL_STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "waiting for a disk",
    "T": "stopped",
    "t": "stopped by a debugger",
    "Z": "ended, not yet reaped",
}


def _readable(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_readable(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(_readable(item) for item in value)
    return str(value)


# ---- shared -------------------------------------------------------------------------------------------------------


def _mark(picture: Picture) -> str:
    return OLD if picture.trouble else ""


def _told(info: dict[str, Any], key: str, say: Any) -> str:
    value = info.get(key)
    return say(value) if isinstance(value, int | float) else ""


def _ordered(counts: dict[str, int]) -> dict[str, int]:
    return {verdict: counts[verdict] for verdict in sorted(counts, key=verdict_order) if counts[verdict]}


def _problems(picture: Picture) -> list[str]:
    return [f"configuration: {problem}" for problem in picture.problems]


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
