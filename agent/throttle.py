"""How many failed tries somebody may have in a while. Pure: the time is passed in."""

from collections import deque


class Throttle:
    """Counts failures per key in a sliding window; bounded, so that a flood of keys costs no memory without end."""

    def __init__(self, tries: int, window_s: float, keys: int = 10_000) -> None:
        self._tries = tries
        self._window_s = window_s
        self._keys = keys
        self._failures: dict[str, deque[float]] = {}

    def wait_s(self, key: str, now: float) -> float:
        """Seconds until this key may try again; 0 when it may now."""
        times = self._failures.get(key)
        if times is None:
            return 0.0
        while times and now - times[0] >= self._window_s:
            times.popleft()
        if not times:
            del self._failures[key]
            return 0.0
        return times[0] + self._window_s - now if len(times) >= self._tries else 0.0

    def failed(self, key: str, now: float) -> None:
        if key not in self._failures and len(self._failures) >= self._keys:
            self._failures.pop(next(iter(self._failures)))
        times = self._failures.setdefault(key, deque(maxlen=self._tries))
        times.append(now)

    def forget(self, key: str) -> None:
        self._failures.pop(key, None)
