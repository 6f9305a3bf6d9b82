"""So many a second, and so many at once: token buckets, one per key. Pure: the time is passed in."""

MAX_KEYS = 10_000


class Buckets:
    """`rate` a second in the long run, `burst` at once; bounded: a flood of keys costs no memory without end."""

    def __init__(self, rate: float, burst: float, keys: int = MAX_KEYS) -> None:
        self._rate = rate
        self._burst = burst
        self._keys = keys
        self._levels: dict[str, tuple[float, float]] = {}  # key -> (tokens left, when that was)

    def take(self, key: str, now: float) -> bool:
        """Whether this one is within the limit; then it counts."""
        left, at = self._levels.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        enough = left >= 1.0
        if len(self._levels) >= self._keys:
            del self._levels[next(iter(self._levels))]
        self._levels[key] = (left - 1.0 if enough else left, now)
        return enough

    def forget(self, key: str) -> None:
        self._levels.pop(key, None)
