"""What GM commands came to, what can be called, what applications tell: rows -> text and a document. Pure."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from agent import gm
from agent.errors import UsageError
from agent.gm import Answer
from agent.messages import CallGm, GmCatalogue
from agent.names import did_you_mean
from agent.table import safe
from roles.admin import quantity
from roles.admin.fold import table
from roles.admin.reports import place
from roles.admin.result import Result

FOLDED = 4  # so many targets with the very same verdict become one row
NAMED = 3  # of those, by name
TOLD = 20  # targets that went wrong, on stderr
MARKS = {gm.ANSWERED: "✓", gm.TIMED_OUT: "?", gm.UNKNOWN: "?"}


# ---- verdicts -----------------------------------------------------------------------------------------------------


def verdicts(request: CallGm, answers: Sequence[Answer], spoken: str, note: str = "") -> Result:
    """One row per target, or per verdict where many targets have the same one; `spoken`: secrets masked."""
    ordered = sorted(answers, key=lambda answer: answer.target)
    counts = Counter(answer.verdict for answer in ordered)
    document = {
        "gm": request.command,
        "id": request.id,
        "spoken": spoken,
        "verdicts": [_document(answer) for answer in ordered],
        "summary": {verdict: counts[verdict] for verdict in _known(counts)},
    }
    code = gm.exit_code(ordered) if ordered else 5
    if note and not code:  # some have not answered
        code = 5
    trouble = [f"gm {request.command} {a.target}: {a.verdict}: {a.text}" for a in ordered if not a.good]
    if len(trouble) > TOLD:
        trouble[TOLD:] = [f"gm {request.command}: {_summary(counts)}"]
    summary = f"gm {request.command}: {_summary(counts)}"
    lines = _one(ordered[0]) if len(ordered) == 1 else [*_many(ordered), summary]
    return Result(lines, document, code, [note] if note else [], trouble)


def _one(answer: Answer) -> list[str]:
    """The answer of a single target has the screen for itself."""
    head = f"{MARKS.get(answer.verdict, '✗')} {answer.verdict}  {answer.target}"
    if answer.text:
        head += f"  {answer.text}"
    if answer.answer is None:
        return [safe(head)]
    if isinstance(answer.answer, dict):
        rows = [[name, compact(value)] for name, value in answer.answer.items()]
        return [safe(head), *table(rows, before="  ")]
    return [safe(head), f"  {safe(compact(answer.answer))}"]


def _many(answers: Sequence[Answer]) -> list[str]:
    groups: dict[tuple[str, str, str], list[str]] = {}
    for answer in answers:
        shown = "" if answer.answer is None else compact(answer.answer)
        groups.setdefault((answer.verdict, shown, answer.text), []).append(answer.target)
    rows = []
    for (verdict, shown, text), targets in groups.items():
        what = "; ".join(part for part in (shown, text) if part)
        if len(targets) < FOLDED:
            rows += [[MARKS.get(verdict, "✗"), verdict, target, what] for target in targets]
        else:
            named = ", ".join(place(target)[2] for target in targets[:NAMED])
            rows.append([MARKS.get(verdict, "✗"), verdict, f"{len(targets)} processes: {named}, …", what])
    return table(rows, ["", "VERDICT", "TARGET", "ANSWER"])


def compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _summary(counts: Counter[str]) -> str:
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in _known(counts) if counts[verdict])
    return told or "no verdict came"


def _known(counts: Counter[str]) -> tuple[str, ...]:
    return (*gm.VERDICTS, *sorted(counts.keys() - set(gm.VERDICTS)))


def _document(answer: Answer) -> dict[str, Any]:
    region, ip, name = place(answer.target)
    return {
        "target": answer.target,
        "region": region,
        "ip": ip,
        "name": name,
        "verdict": answer.verdict,
        "answer": answer.answer,
        "text": answer.text,
    }


# ---- what can be called -------------------------------------------------------------------------------------------


def catalogue(found: GmCatalogue, command: str = "") -> Result:
    """Commands by who has declared the very same ones. Raises UsageError for a command that nobody has."""
    groups: dict[tuple[str, str], list[str]] = {}
    for key, type_, digest, *_ in found.processes:
        groups.setdefault((type_, digest), []).append(key)
    names = {entry["name"] for commands in found.commands.values() for entry in commands}
    if command and command not in names:
        raise UsageError(f'no GM command "{command}" there{did_you_mean(command, names)}')
    lines: list[str] = []
    shown = []
    for (type_, digest), keys in sorted(groups.items()):
        commands = [entry for entry in found.commands.get(digest, []) if command in ("", entry["name"])]
        if command and not commands:
            continue
        lines += [*([""] if lines else []), _who(type_, keys, digest)]
        lines += _command(commands[0]) if command else _commands(commands) if digest else []
        shown.append({"type": type_, "joined": bool(digest), "processes": sorted(keys), "commands": commands})
    notes = (
        [f"no answer from {', '.join(found.silent)}: what can be called there is unknown"]
        if found.silent
        else []
    )
    return Result(lines, {"groups": shown, "silent": found.silent}, 5 if found.silent else 0, notes)


def _who(type_: str, keys: Sequence[str], digest: str) -> str:
    named = ", ".join(place(key)[2] for key in sorted(keys)[:NAMED])
    more = f", and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    joined = "" if digest else ": not joined, so nothing can be called"
    return safe(f"{type_} ({named}{more}){joined}")


def _commands(commands: Iterable[dict[str, Any]]) -> list[str]:
    rows = [[_usage(entry), entry["danger"], entry["help"]] for entry in commands]
    return table(rows, before="  ") or ["  it has declared no commands"]


def _command(entry: dict[str, Any]) -> list[str]:
    rows = [
        [
            f"--{argument['name']}",
            argument["type"],
            f"default {compact(argument['default'])}" if "default" in argument else "required",
            " ".join([argument.get("help", ""), "(secret)" if argument.get("secret") else ""]).strip(),
        ]
        for argument in entry["arguments"]
    ]
    about = f"  {entry['help']} ({entry['danger']})" if entry["help"] else f"  ({entry['danger']})"
    lines = [safe(f"  {_usage(entry)}"), safe(about), *table(rows, before="    ")]
    return [*lines, safe(f"  answers {entry['answer']}")] if entry["answer"] else lines


def _usage(entry: dict[str, Any]) -> str:
    words = [
        f"[{argument['name'].upper()}]" if "default" in argument else argument["name"].upper()
        for argument in entry["arguments"]
    ]
    return " ".join([entry["name"], *words])


# ---- events -------------------------------------------------------------------------------------------------------


def events(found: Sequence[Sequence[Any]]) -> Result:
    """Kept ones, oldest first."""
    rows = [
        [quantity.moment(at), key, name, "" if data is None else compact(data)]
        for key, at, name, data in found
    ]
    lines = table(rows, ["WHEN", "PROCESS", "EVENT", "DATA"]) or ["no events are kept there"]
    return Result(lines, {"events": [_event(row) for row in found]})


def event(row: Sequence[Any]) -> Result:
    """One line of `watch events`."""
    key, at, name, data = row
    clock = quantity.moment(at)[-8:]
    told = "" if data is None else f" {compact(data)}"
    return Result([safe(f"{clock} {key}: {name}{told}")], _event(row))


def _event(row: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(("key", "at", "name", "data"), row, strict=True))
