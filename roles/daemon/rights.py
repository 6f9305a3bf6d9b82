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
from agent.user import User
from agent.world import Process

log = logging.getLogger("agent.rights")

ADDRESS_TRIES, USER_TRIES, TRIES_S = 10, 30, 60.0
NOBODY_ITERATIONS = 4096


class Rights:
    def __init__(self, globaldb: GlobalDb) -> None:
        self._globaldb = globaldb
        self._known: dict[str, User | None] = {}
        self._by_address = Throttle(ADDRESS_TRIES, TRIES_S)
        self._by_user = Throttle(USER_TRIES, TRIES_S)
        self._salt_key = secrets.token_bytes(32)

    def user(self, name: str) -> User | None:
        """The user as globaldb has him now, or as it had him last. Raises Refused if neither is known."""
        try:
            self._known[name] = self._globaldb.read_user(name)
        except (StoreDown, StoreRefused) as error:
            if name not in self._known:
                raise Refused("unavailable", f"users cannot be read: {error}") from None
            log.warning("user %s: rights as last read, %s", name, error)
        except ConfigError as error:
            log.error("%s", error)
            raise Refused("unavailable", str(error)) from None
        return self._known[name]

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

    # ---- the gate (agent.handshake.Gate) --------------------------------------------------------------------------

    def greet(self, hello: Hello, address: str) -> None:
        if hello.role != "admin":
            raise Refused(
                "forbidden", f"a daemon serves admins; a peer of role {hello.role!r} has the wrong port"
            )
        now = time.monotonic()
        wait_s = max(
            self._by_address.wait_s(_host(address), now),
            self._by_user.wait_s(f"{hello.name}@{_host(address)}", now),
        )
        if wait_s:
            raise Refused("too_many", f"too many failed logins; wait {wait_s:.0f} s")

    def verifier(self, _role: str, name: str) -> Verifier:
        user = None if names.user_problem(name) else self.user(name)
        if user is None:
            salt = hmac.digest(self._salt_key, name.encode(errors="replace"), "sha256")[:16]
            return Verifier(salt, secrets.token_bytes(32), secrets.token_bytes(32), NOBODY_ITERATIONS)
        return Verifier(*user.verifier)

    def failed(self, _role: str, name: str, address: str) -> None:
        now = time.monotonic()
        self._by_address.failed(_host(address), now)
        self._by_user.failed(f"{name}@{_host(address)}", now)
        log.warning("login of %.64r from %s: refused, wrong name or password", name, address)

    def admit(self, identity: Identity, address: str) -> None:
        self._by_user.forget(f"{identity.name}@{_host(address)}")


def may(grants: tuple[Grant, ...], verb: str, process: Process) -> bool:
    return allows(grants, verb, process.region, process.ip, process.name)


def _host(address: str) -> str:
    return address.rpartition(":")[0]
