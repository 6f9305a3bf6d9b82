"""A web back end on top of agentsdk, as somebody would write one: real threads, one group for all of them.

python web_back_end.py USER HOST:PORT …         the password is the first line of standard input; prints its own port

GET  /processes|machines|tasks|catalogue|kept?target=…
POST /start|stop|restart|drain|cancel/TARGET?confirm=yes          {option: value}
POST /gm/TARGET/COMMAND?confirm=yes&any=yes&id=…&timeout_s=…      {argument: value}
POST /again/ID/TARGET/COMMAND                                     {argument: value}
GET  /events?target=…&events=yes&initial=yes                      server-sent events, for ever
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "sdk" / "python"))

import agentsdk

STATUS = [
    (agentsdk.NotConfirmed, 409),
    (agentsdk.Forbidden, 403),
    (agentsdk.Refused, 422),
    (agentsdk.ConnectFailed, 503),
    (agentsdk.OutcomeUnknown, 504),
    (ValueError, 400),
]
OPERATIONS = ("start", "stop", "restart", "drain", "cancel")
KEEP_ALIVE_S = 0.5
assert "gevent" not in sys.modules


class Handler(BaseHTTPRequestHandler):
    group: agentsdk.Group

    def do_GET(self) -> None:
        self._reply(self._read)

    def do_POST(self) -> None:
        self._reply(self._write)

    def _reply(self, work: Any) -> None:
        parts = urlsplit(self.path)
        self.words: list[str] = [unquote(word) for word in parts.path.strip("/").split("/")]
        self.options: dict[str, str] = {name: values[0] for name, values in parse_qs(parts.query).items()}
        try:
            status, document = 200, work()
        except (agentsdk.AgentError, ValueError) as error:
            status = next(status for kind, status in STATUS if isinstance(error, kind))
            document = {"error": type(error).__name__, "text": str(error)}
            document.update({name: value for name, value in vars(error).items() if name != "came"})
            if isinstance(error, agentsdk.OutcomeUnknown):
                document["came"] = rows(error.came)
        if document is not None:
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    def _read(self) -> Any:
        what, target = self.words[0], self.options.get("target", "*")
        if what == "events":
            return self._stream(target)
        if what == "tasks":
            return rows(self.group.tasks())
        if what == "kept":
            return rows(self.group.events(target))
        if what == "catalogue":
            catalogue = self.group.catalogue(target)
            return {"offers": {offer.key: list(offer.commands) for offer in catalogue.offers}}
        return rows(self.group.machines(target) if what == "machines" else self.group.processes(target))

    def _write(self) -> Any:
        given = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
        verb, *words = self.words
        confirm = "confirm" in self.options
        if verb in OPERATIONS:
            return rows(getattr(self.group, verb)(*words, confirm=confirm, **given))
        wait = {"any": "any" in self.options, "timeout_s": float(self.options.get("timeout_s", 30))}
        if verb == "again":
            gm = self.group.gm_again(*words, given, **wait)
        else:
            gm = self.group.gm(*words, given, confirm=confirm, id=self.options.get("id", ""), **wait)
        return {"id": gm.id, "good": gm.good, "in_doubt": gm.in_doubt, "answers": rows(gm)}

    def _stream(self, target: str) -> None:
        wanted = {"events": "events" in self.options, "initial": "initial" in self.options}
        with self.group.changes(target, reconnect=True, **wanted) as feed:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                while not feed.closed:
                    change = feed.get(KEEP_ALIVE_S)  # whoever has gone is noticed by writing to him
                    line = ": nothing new" if change is None else f"data: {json.dumps(document(change))}"
                    self.wfile.write(f"{line}\n\n".encode())
            except OSError:
                return

    def log_message(self, *_words: Any) -> None:
        pass


def rows(values: Any) -> list[Any]:
    return [
        {**value._asdict(), **({"good": value.good} if hasattr(value, "good") else {})} for value in values
    ]


def document(change: agentsdk.Change) -> dict[str, Any]:
    told = {name: value for name, value in change._asdict().items() if value}
    return {name: value._asdict() if isinstance(value, tuple) else value for name, value in told.items()}


def main() -> None:
    user, *addresses = sys.argv[1:]
    with agentsdk.connect(addresses, user=user, password=sys.stdin.readline().rstrip("\n")) as group:
        Handler.group = group
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
