"""The bottom line of the shell. Pure."""

from collections import Counter

from roles.admin import quantity
from roles.admin.picture import Picture, verdict_order


def line(picture: Picture, daemon: str, trouble: str, now: float) -> str:
    """Connected daemon, machines up, processes by verdict, age of the picture; `trouble` is "" while connected."""
    parts = [f"daemon {daemon}" if not trouble else f"NOT CONNECTED to daemon {daemon}, reconnecting"]
    if picture.trouble and not trouble:
        parts.append(f"OLD PICTURE: {picture.trouble}")
    if picture.ips():
        parts.append(f"machines {picture.online()}/{len(picture.ips())} up")
    counts: Counter[str] = picture.verdicts()
    if counts:
        parts.append(
            " ".join(f"{counts[verdict]} {verdict}" for verdict in sorted(counts, key=verdict_order))
        )
    if picture.heard is None:
        parts.append("no picture yet")
    else:
        parts.append(f"picture {quantity.duration(now - picture.heard)} old")
    return " · ".join(parts)
