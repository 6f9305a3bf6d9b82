"""Durations, sizes, moments and shares as people read and write them. Pure."""

import re
from datetime import datetime

from agent.errors import UsageError

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
WRITTEN_UNITS = {"": 1, "s": 1, "m": MINUTE_S, "h": HOUR_S, "d": DAY_S}
MAX_WRITTEN_CHARS = 20
UNITS = ("B", "K", "M", "G", "T", "P")


def duration(seconds: float) -> str:
    """The two largest units: 0.4s, 45s, 3m20s, 5h12m, 3d04h."""
    if seconds < 0:
        return "0s"
    if seconds < 1:
        return f"{seconds:.1f}s"
    whole = int(seconds)
    if whole < MINUTE_S:
        return f"{whole}s"
    if whole < HOUR_S:
        return f"{whole // MINUTE_S}m{whole % MINUTE_S:02}s"
    if whole < DAY_S:
        return f"{whole // HOUR_S}h{whole % HOUR_S // MINUTE_S:02}m"
    return f"{whole // DAY_S}d{whole % DAY_S // HOUR_S:02}h"


def seconds(text: str) -> float:
    """What a person means by 90, 90s, 30m, 1h30m, 2d. Raises UsageError."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text or len(text) > MAX_WRITTEN_CHARS:
        raise UsageError(f'"{text}" is not a duration like 90s, 30m, 1h30m')
    return sum(float(number) * WRITTEN_UNITS[unit] for number, unit in parts)


def size(count: float) -> str:
    """Bytes in binary units, three digits that matter: 512B, 1.5G, 61M."""
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            return f"{count:.1f}{unit}" if count < 10 and unit != "B" else f"{count:.0f}{unit}"
        count /= 1024
    raise AssertionError("unreachable")


def percent(share: float) -> str:
    return f"{share:.1f}%" if share < 10 else f"{share:.0f}%"


def moment(at: float) -> str:
    """Wall-clock time of this machine's time zone; the day is left out nowhere, for nobody reads a table alone."""
    try:
        return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S") if at > 0 else ""
    except (ValueError, OverflowError, OSError):  # no year that there is
        return "?"


def count(number: int, noun: str) -> str:
    """`1 process`, `2 processes`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith(('s', 'ch')) else 's'}"
