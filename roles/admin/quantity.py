"""Durations, sizes, moments and shares as people read them. Pure."""

from datetime import datetime

MINUTE_S, HOUR_S, DAY_S = 60, 3600, 86400
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
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S") if at > 0 else ""


def count(number: int, noun: str) -> str:
    """`1 process`, `2 processes`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun}{'es' if noun.endswith(('s', 'ch')) else 's'}"
