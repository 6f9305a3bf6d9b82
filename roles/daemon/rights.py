"""Who may: users and their grants as globaldb has them now, and the gate that admins log in through.

A right is read anew for every command, so one taken away acts at once, on open sessions too. While globaldb is away
the users read before stay as they were: operators need us then more than ever.
"""

import hmac
import logging
import secrets
import time

from agent import names
from agent.errors import ConfigError, Refused, StoreDown, StoreRefused
from agent.globaldb import GlobalDb
from agent.grant import Grant, allows
from agent.handshake import Identity, Verifier
from agent.messages import Hello
from agent.throttle import Throttle
from agent.user import ITERATIONS, User
from agent.world import Process

log = logging.getLogger("agent.rights")

TRIES_S = 60.0
ADDRESS_TRIES = 10  # from one address
USER_TRIES = 100  # at one user, from everywhere together
WELCOME = 10_000


class Rights:
    def __init__(self, globaldb: GlobalDb) -> None:
        self._globaldb = globaldb
        self._known: dict[str, User] = {}  # not the names that strangers make up: they would fill our memory
        self._by_address = Throttle(ADDRESS_TRIES, TRIES_S)
        self._by_user = Throttle(USER_TRIES, TRIES_S)
        self._by_both = Throttle(ADDRESS_TRIES, TRIES_S)
        self._welcome: dict[str, None] = {}  # user@address that has logged in, oldest first
        self._salt_key = b""

    def user(self, name: str) -> User | None:
        """The user as globaldb has him now, or as it had him last. Raises Refused if neither is known."""
        try:
            user = self._globaldb.read_user(name)
        except (StoreDown, StoreRefused) as error:
            if name not in self._known:
                raise Refused("unavailable", f"users cannot be read: {error}") from None
            log.warning("user %s: rights as last read, %s", name, error)
            return self._known[name]
        except ConfigError as error:
            log.error("%s", error)
            raise Refused("unavailable", str(error)) from None
        if user is None:
            self._known.pop(name, None)
        else:
            self._known[name] = user
        return user

    def grants(self, name: str) -> tuple[Grant, ...]:
        """Raises Refused if there is no such user any more."""
        user = self.user(name)
        if user is None:
            raise Refused("forbidden", f"user {name} has been removed")
        return user.grants

    def demand(self, name: str, verb: str) -> None:
        """For what concerns no machine. Raises Refused."""
        if not any(grant.has_verb(verb) and grant.selection == "*" for grant in self.grants(name)):
            raise Refused("forbidden", f"user {name} may not {verb}: it needs the grant `{verb} on *`")

    # ---- the gate (agent.reception.Gate) --------------------------------------------------------------------------

    def greet(self, hello: Hello, address: str) -> None:
        if hello.role != "admin":
            raise Refused(
                "forbidden", f"a daemon serves admins; a peer of role {hello.role!r} has the wrong port"
            )
        wait_s = self._wait_s(hello.name, _host(address), time.monotonic())
        if wait_s:
            raise Refused("too_many", f"too many failed logins; wait {wait_s:.0f} s")

    def _wait_s(self, name: str, host: str, now: float) -> float:
        """Who has logged in from an address is locked out by his own mistakes there only, not by those of others."""
        both = f"{name}@{host}"
        if both in self._welcome:
            return self._by_both.wait_s(both, now)
        return max(self._by_address.wait_s(host, now), self._by_user.wait_s(name, now))

    def verifier(self, _role: str, name: str) -> Verifier:
        """Raises Refused, in words that are no news to a stranger, while users cannot be read."""
        try:
            user = None if names.user_problem(name) else self.user(name)
        except Refused as error:
            log.warning("login of %.64r: %s", name, error)
            raise Refused("unavailable", "users cannot be read just now; the daemon's log says why") from None
        return Verifier(*user.verifier) if user else self._nobody(name)

    def _nobody(self, name: str) -> Verifier:
        """Looks from outside like a user's, at every daemon and every time alike; no proof fits it."""
        salt = hmac.digest(self._salts(), name.encode(errors="replace"), "sha256")
        return Verifier(salt, secrets.token_bytes(32), secrets.token_bytes(32), ITERATIONS)

    def _salts(self) -> bytes:
        if not self._salt_key:
            try:
                self._salt_key = self._globaldb.salt_key()
            except (StoreDown, StoreRefused) as error:
                log.warning("salts of unknown users: %s", error)
                return secrets.token_bytes(32)
        return self._salt_key

    def failed(self, _role: str, name: str, address: str) -> None:
        now, host = time.monotonic(), _host(address)
        self._by_address.failed(host, now)
        self._by_user.failed(name, now)
        self._by_both.failed(f"{name}@{host}", now)
        log.warning("login of %.64r from %s: refused, wrong name or password", name, address)

    def admit(self, identity: Identity, address: str) -> None:
        both = f"{identity.name}@{_host(address)}"
        self._by_both.forget(both)
        self._welcome.pop(both, None)
        self._welcome[both] = None
        if len(self._welcome) > WELCOME:
            del self._welcome[next(iter(self._welcome))]


def may(grants: tuple[Grant, ...], verb: str, process: Process) -> bool:
    return allows(grants, verb, process.region, process.ip, process.name)


def _host(address: str) -> str:
    return address.rpartition(":")[0]
