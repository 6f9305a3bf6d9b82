"""What a region, a machine's ip, a process name, a program type and a user name may be. The one place.

A name stands in a globaldb key, in `<region>.<ip>.<name>`, in globs and comma lists that operators type and
in file names. So it has none of the characters that mean something there, and one spelling only. Every
`…_problem` returns "" for a good name, or the reason in words that fit behind `"x" `.

    process key   大区1.192.168.1.10.game1      region and name have no dot: it splits one way only
"""

import re
import unicodedata
from difflib import get_close_matches
from functools import lru_cache

from agent.errors import ConfigError

MAX_NAME_CHARS = 64
MAX_KEY_BYTES = 200  # SSDB takes 255 bytes, "process:" and later prefixes included
MAX_USER_CHARS = 64

FORBIDDEN = frozenset(":,*?[]/\\\"'`.")
# words that `list …` and `start …` already use for something else
RESERVED_REGIONS = frozenset({"all", "world", "machine"})
RESERVED_NAMES = frozenset({"all"})

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IP = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


def _word_problem(word: object, forbidden: frozenset[str], most: int) -> str:
    if not isinstance(word, str):
        return "is not a string"
    if not word:
        return "is empty"
    if len(word) > most:
        return f"has {len(word)} characters, {most} are allowed"
    if not word.isprintable() or any(c.isspace() for c in word):
        return "has a space, a control or an invisible character"
    if taken := sorted(forbidden.intersection(word)):
        return f"has {' '.join(taken)}, which names may not have (none of {' '.join(sorted(forbidden))})"
    if word.startswith("-"):
        return "begins with -, which would read as an option"
    if unicodedata.normalize("NFC", word) != word:
        return "is not in Unicode normal form NFC, so the same name typed elsewhere would differ"
    return ""


def _target_problem(word: str, reserved: frozenset[str]) -> str:
    """Of a word that stands in the commands of operators, beside words of theirs and pids."""
    if problem := _word_problem(word, FORBIDDEN, MAX_NAME_CHARS):
        return problem
    if word in reserved:
        return "is a word of the commands"
    return "is all digits, which would read as a pid" if word.isdigit() else ""


@lru_cache(maxsize=65536)
def region_problem(region: str) -> str:
    return _target_problem(region, RESERVED_REGIONS)


@lru_cache(maxsize=65536)
def name_problem(name: str) -> str:
    return _target_problem(name, RESERVED_NAMES)


def type_problem(type_: str) -> str:
    return _word_problem(type_, FORBIDDEN, MAX_NAME_CHARS)


def user_problem(name: str) -> str:
    """Also refuses `=`, which SCRAM would have to escape; dots and @ are fine."""
    return _word_problem(name, (FORBIDDEN | {"="}) - {"."}, MAX_USER_CHARS)


@lru_cache(maxsize=65536)
def ip_problem(ip: str) -> str:
    """A machine's inner address: dotted IPv4 in its one canonical spelling, of one machine."""
    if not isinstance(ip, str) or not _IP.fullmatch(ip):
        return "is not an IPv4 address like 192.168.1.10"
    if ip == "0.0.0.0" or int(ip.split(".", 1)[0]) >= 224:
        return "is not the address of one machine"
    return ""


def is_ip(text: str) -> bool:
    return not ip_problem(text)


def process_key(region: str, ip: str, name: str) -> str:
    return f"{region}.{ip}.{name}"


def key_problem(region: str, ip: str, name: str) -> str:
    size = len(process_key(region, ip, name).encode())
    if size > MAX_KEY_BYTES:
        return f"makes the key {region}.{ip}.{name} {size} bytes long, {MAX_KEY_BYTES} are allowed"
    return ""


def split_key(key: str) -> tuple[str, str, str]:
    """`(region, ip, name)` of a process key; ConfigError if it is none."""
    parts = key.split(".") if isinstance(key, str) else []
    if len(parts) == 6:
        region, ip, name = parts[0], ".".join(parts[1:5]), parts[5]
        if not (region_problem(region) or ip_problem(ip) or name_problem(name)):
            return region, ip, name
    raise ConfigError(f'"{key}" is not a process key like 大区1.192.168.1.10.game1')


def did_you_mean(word: str, known: object) -> str:
    """` (did you mean "x"?)`, or nothing where nothing is near."""
    near = get_close_matches(str(word), sorted(map(str, known)), n=1)  # type: ignore[call-overload]
    return f' (did you mean "{near[0]}"?)' if near else ""
