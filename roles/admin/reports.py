"""What became of a command, who is logged in, the audit, the help: rows -> text and a document. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from agent.errors import ConfigError
from agent.names import split_key
from agent.outcome import ALREADY, FAILED, OK, REFUSED, RESULTS, UNKNOWN, Outcome, exit_code
from agent.table import safe
from roles.admin import quantity
from roles.admin.fold import table
from roles.admin.grammar import VERBS, Verb
from roles.admin.picture import Change
from roles.admin.result import Result

TOLD = 20  # targets that went wrong, on stderr
MARKS = {OK: "✓", ALREADY: "✓", FAILED: "✗", REFUSED: "✗", UNKNOWN: "?"}


# ---- outcomes -----------------------------------------------------------------------------------------------------


def outcomes(verb: str, found: Sequence[Outcome], *, plan: bool = False) -> Result:
    """One line per target, and a summary."""
    ordered = sorted(found, key=lambda outcome: outcome.target)
    rows = [
        [
            MARKS.get(outcome.result, "?"),
            outcome.result,
            outcome.target,
            str(outcome.pid or ""),
            _detail(outcome),
        ]
        for outcome in ordered
    ]
    counts = Counter(outcome.result for outcome in ordered)
    document = {
        "verb": verb,
        "plan": plan,
        "outcomes": [_outcome(outcome) for outcome in ordered],
        "summary": {result: counts[result] for result in _results(counts)},
    }
    code = exit_code(ordered)
    lines = table(rows, ["", "RESULT", "TARGET", "PID", "DETAIL"], "<<<><")
    trouble = [f"{verb} {o.target}: {o.result}: {o.detail}" for o in ordered if not o.good]
    if len(trouble) > TOLD:
        trouble[TOLD:] = [f"{verb}: {summary(verb, counts, plan=plan)}"]
    return Result([*lines, summary(verb, counts, plan=plan)], document, code, trouble=trouble)


def _detail(outcome: Outcome) -> str:
    """Without what stands beside it."""
    detail = outcome.detail.removeprefix(f"process {outcome.target}: ")
    return "" if detail == f"pid {outcome.pid}" else detail


def _outcome(outcome: Outcome) -> dict[str, Any]:
    region, ip, name = place(outcome.target)
    return {
        "target": outcome.target,
        "region": region,
        "ip": ip,
        "name": name,
        "result": outcome.result,
        "detail": outcome.detail,
        "pid": outcome.pid,
    }


def summary(verb: str, counts: Counter[str], *, plan: bool = False) -> str:
    told = ", ".join(f"{counts[result]} {result}" for result in _results(counts) if counts[result])
    ahead = f"plan of {verb}, nothing was done" if plan else verb
    return f"{ahead}: {told or 'no outcome came'}"


def _results(counts: Counter[str]) -> tuple[str, ...]:
    """Those we know in their order, then what a newer daemon may say."""
    return (*RESULTS, *sorted(counts.keys() - set(RESULTS)))


def progress(counts: Counter[str], total: int) -> str:
    done = sum(counts.values())
    bad = [f"{counts[result]} {result}" for result in (FAILED, REFUSED, UNKNOWN) if counts[result]]
    return ", ".join([f"{done}/{total} done" if total else f"{done} done", *bad])


def reach(planned: Sequence[Outcome]) -> tuple[int, int, int]:
    """(targets, those of them that are so already, machines) of a planned command."""
    already = sum(outcome.result == ALREADY for outcome in planned)
    return len(planned), already, len({place(outcome.target)[1] for outcome in planned})


def place(target: str) -> tuple[str, str, str]:
    """(region, ip, name) of a target, which is a process key or an ip."""
    try:
        return split_key(target)
    except ConfigError:
        return "", target, ""


# ---- sessions -----------------------------------------------------------------------------------------------------


def sessions(found: Sequence[Sequence[Any]], silent: Sequence[str]) -> Result:
    """A session that nobody answers for is not known to be absent: exit 5 then."""
    keys = ("daemon", "user", "address", "since_at", "version")
    entries = [dict(zip(keys, session, strict=False)) for session in found]
    entries.sort(key=lambda entry: (str(entry.get("daemon")), str(entry.get("user"))))
    rows = [
        [entry.get("daemon"), entry.get("user"), entry.get("address"),
         quantity.moment(entry.get("since_at") or 0.0), entry.get("version")]
        for entry in entries
    ]  # fmt: skip
    lines = table(rows, ["DAEMON", "USER", "FROM", "SINCE", "VERSION"])
    notes = [f"no answer from {', '.join(silent)}: who is logged in there is unknown"] if silent else []
    return Result(lines, {"sessions": entries, "silent": list(silent)}, 5 if silent else 0, notes)


# ---- tasks --------------------------------------------------------------------------------------------------------


def tasks(found: Sequence[dict[str, Any]]) -> Result:
    rows = [
        [
            task.get("key"),
            task.get("kind"),
            task.get("phase"),
            "" if task.get("players", -1) < 0 else task.get("players"),
            quantity.moment(task.get("begun_at") or 0.0),
            quantity.moment(task.get("deadline_at") or 0.0),
            task.get("user"),
            task.get("detail"),
        ]
        for task in found
    ]
    headers = ["PROCESS", "TASK", "PHASE", "PLAYERS", "BEGUN", "DEADLINE", "BY", "DETAIL"]
    return Result(table(rows, headers, "<<<>") or ["no tasks"], {"tasks": list(found)})


# ---- audit --------------------------------------------------------------------------------------------------------

BLAMED = 3  # targets of a command that a line of the audit names


def audit(lines: Sequence[dict[str, Any]]) -> Result:
    rows = [
        [
            quantity.moment(line.get("at") or 0.0),
            *(line.get(key) for key in ("user", "from", "daemon", "what")),
            "; ".join([str(line.get("verdict", "")), *_blamed(line)]),
        ]
        for line in lines
    ]
    shown = table(rows, ["WHEN", "USER", "FROM", "DAEMON", "COMMAND", "VERDICT"])
    return Result(shown, {"lines": list(lines)})


def _blamed(line: dict[str, Any]) -> list[str]:
    """The first targets that went wrong, and how many more did."""
    bad = [target for target in line.get("targets") or [] if target[1] not in (OK, ALREADY)]
    more = [f"and {len(bad) - BLAMED} more"] if len(bad) > BLAMED else []
    return [*(" ".join(map(str, target)) for target in bad[:BLAMED]), *more]


# ---- changes ------------------------------------------------------------------------------------------------------


def change(happened: Change, clock: str) -> Result:
    """One line of `watch` in a script."""
    old, new = happened.old, happened.new
    was, now = (old.verdict if old else "-"), (new.verdict if new else "-")
    pid = f" (pid {new.pid})" if new and new.pid else ""
    left = f" ({safe(new.exit)})" if new and new.exit and not new.pid else ""
    told = {"pid": new.pid, "exit": new.exit} if new else {"pid": 0, "exit": ""}
    return Result(
        [f"{clock} {safe(happened.key)}: {safe(was)} -> {safe(now)}{pid}{left}"],
        {"key": happened.key, "old": was, "new": now, **told},
    )


# ---- help ---------------------------------------------------------------------------------------------------------


def help_list() -> Result:
    rows = [
        [usage, verb.help if usage is verb.usage[0] else ""]
        for verb in VERBS.values()
        for usage in verb.usage
    ]
    return Result(
        [*table(rows), "", *VERBS["start"].more.splitlines()], {"commands": [_verb(name) for name in VERBS]}
    )


def help_topic(name: str) -> Result:
    verb: Verb = VERBS[name]
    return Result(
        [*(f"  {usage}" for usage in verb.usage), "", verb.help, *verb.more.splitlines()], _verb(name)
    )


def _verb(name: str) -> dict[str, Any]:
    verb = VERBS[name]
    return {"name": name, "usage": list(verb.usage), "help": verb.help, "more": verb.more}
