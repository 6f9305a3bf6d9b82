"""User: operators who may log in, and what each may do.

Usage:
  agent user add NAME [--grant GRANT]... [options]
  agent user passwd NAME [options]
  agent user grant NAME GRANT... [options]
  agent user revoke NAME GRANT... [options]
  agent user remove NAME [options]
  agent user list [options]

Options:
  --grant GRANT         "VERBS on SELECTION", see below; may be repeated.
  --password-file FILE  Read the password there (- is stdin) instead of asking for it. Or set AGENT_PASSWORD.
  --globaldb URL        redis://[:password@]host[:port] or rediss://… [default: redis://127.0.0.1:6379]
  --config FILE         TOML file with these options. [default: /etc/agent.toml]
  -h --help             This text.

A grant: "start,stop on 大区1:*", "list on *", "gm:kick on *:192.168.1.10.game*", "* on *" (everything).
Verbs: list start stop restart kill gm events who audit. Reserved for commands to come, and good for nothing yet: tail
user world upgrade. Without a grant a user can log in and do nothing. Rights that are taken away act at once, on open
sessions too.
"""

import sys
from collections.abc import Iterable

from agent import console, names, settings
from agent.credential import read_password
from agent.errors import AgentError
from agent.globaldb import GlobalDb
from agent.grant import Grant, parse_grants
from agent.reader import Machines
from agent.store import Store
from agent.table import render, safe
from agent.user import User, make_verifier, new_user


def main(argv: list[str]) -> int:
    options = settings.load(__doc__ or "", argv, "user")
    globaldb = GlobalDb(Store(options["--globaldb"]))
    name = options["NAME"]
    if options["list"]:
        return list_(globaldb)
    if options["add"]:
        return add(globaldb, name, options["--grant"], options["--password-file"])
    if options["passwd"]:
        return passwd(globaldb, name, options["--password-file"])
    if options["grant"]:
        return grant(globaldb, name, options["GRANT"])
    if options["revoke"]:
        return revoke(globaldb, name, options["GRANT"])
    return remove(globaldb, name)


def add(globaldb: GlobalDb, name: str, grants: list[str], password_file: str | None) -> int:
    parsed = parse_grants(grants)  # before anybody types a password
    if _stands(globaldb, name):
        raise AgentError(f'user "{name}" exists already; agent user passwd or agent user grant change it')
    _warn_of_nothing(globaldb, parsed)
    password = read_password(password_file, prompt=f"password for {name}: ", twice=True)
    user = new_user(name, password, grants)
    globaldb.write_user(user)
    console.note(globaldb, f"user add {name}", f"grants: {_granted(user)}")
    print(f"user {name} added; {_may(user)}")
    return 0


def passwd(globaldb: GlobalDb, name: str, password_file: str | None) -> int:
    user = _existing(globaldb, name)
    password = read_password(password_file, prompt=f"new password for {name}: ", twice=True)
    globaldb.write_user(User(name, make_verifier(password), user.grants))
    console.note(globaldb, f"user passwd {name}", "changed")
    print(f"user {name}: password changed; open sessions go on")
    return 0


def grant(globaldb: GlobalDb, name: str, texts: list[str]) -> int:
    new = parse_grants(texts)
    user = _existing(globaldb, name)
    added = [one for one in new if one not in user.grants]
    if not added:
        print(f"user {name} had that already; {_may(user)}")
        return 0
    user = User(name, user.verifier, (*user.grants, *added))
    _warn_of_nothing(globaldb, added)
    _write_grants(globaldb, user, "grant", added)
    print(f"user {name}: granted; {_may(user)}")
    return 0


def revoke(globaldb: GlobalDb, name: str, texts: list[str]) -> int:
    gone = parse_grants(texts)
    user = _existing(globaldb, name)
    if missing := [str(one) for one in gone if one not in user.grants]:
        raise AgentError(
            f'user "{name}" has no grant "{missing[0]}" as such, nothing was changed; {_may(user)}'
            " (to narrow a grant: revoke it as it stands, then grant what is left)"
        )
    user = User(name, user.verifier, tuple(one for one in user.grants if one not in gone))
    _write_grants(globaldb, user, "revoke", gone)
    print(f"user {name}: revoked; {_may(user)}")
    return 0


def remove(globaldb: GlobalDb, name: str) -> int:
    if not _stands(globaldb, name):
        raise AgentError(f'there is no user "{name}"')
    globaldb.remove_user(name)
    console.note(globaldb, f"user remove {name}", "removed")
    print(f"user {name} removed")
    return 0


def list_(globaldb: GlobalDb) -> int:
    users, problems = globaldb.read_users()
    rows = [[user.name, "; ".join(map(str, user.grants)) or "(none: can log in only)"] for user in users]
    print(render(rows, ["USER", "GRANTS"]) if rows else "no users; agent user add NAME --grant … makes one")
    for problem in problems:
        print(safe(problem), file=sys.stderr)
    return 1 if problems else 0


def _stands(globaldb: GlobalDb, name: str) -> bool:
    """Whether there is an entry, a damaged one included (that can be removed and made anew)."""
    return globaldb.store.hexists("user", name)


def _existing(globaldb: GlobalDb, name: str) -> User:
    user = globaldb.read_user(name)
    if user is None:
        raise AgentError(f'there is no user "{name}"; agent user list shows all, agent user add makes one')
    return user


def _write_grants(globaldb: GlobalDb, user: User, verb: str, grants: Iterable[Grant]) -> None:
    globaldb.write_user(user)
    console.note(globaldb, f"user {verb} {user.name}", "; ".join(map(str, grants)))


def _warn_of_nothing(globaldb: GlobalDb, grants: Iterable[Grant]) -> None:
    """A grant on what is not there is legal, as the world may get it later; more often it is a typing error."""
    machines = globaldb.read_world().machines
    for grant in grants:
        for member in grant.selection.split(","):
            if member == "*" or _is_there(Grant(grant.verbs, member), machines):
                continue
            region = member.partition(":")[0]
            hint = "" if region in machines else names.did_you_mean(region, machines)
            print(f'warning: grant "{grant}": nothing in the world is "{member}"{hint}', file=sys.stderr)


def _is_there(grant: Grant, machines: Machines) -> bool:
    for region, ips in machines.items():
        if grant.covers(region, "", ""):  # REGION:*, also of a region without machines
            return True
        for ip, processes in ips.items():
            if any(grant.covers(region, ip, name) for name in ["", *(one.name for one in processes)]):
                return True
    return False


def _granted(user: User) -> str:
    return "; ".join(map(str, user.grants)) or "none"


def _may(user: User) -> str:
    if user.grants:
        return f"may: {_granted(user)}"
    return f'has no grants and can only log in; for example: agent user grant {user.name} "list on *"'
