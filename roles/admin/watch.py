"""`watch`, until Ctrl-C: in the shell a table that is drawn anew, in a script a line per change."""

from datetime import datetime
from typing import Any

from agent.errors import ConnectFailed
from agent.messages import WatchEvents, WatchPicture
from agent.selection import Selection
from roles.admin import gm_views, quantity, reports, views
from roles.admin.desk import Desk
from roles.admin.picture import Picture, Row, changes, verdict_order
from roles.admin.result import Result

REDRAW_S = 1.0
EVENTS_TICK_S = 0.5
ENTER, LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
HOME, CLEAR_LINE, CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"
GOOD = ("RUNNING", "STOPPED")


def lines(desk: Desk, selection: Selection) -> Result:
    """For scripts; comes back through a restart of the daemon and tells what changed meanwhile."""
    session, screen = desk.session, desk.screen
    session.notify = screen.complain
    session.keep()
    request = WatchPicture(
        selection.region, selection.machine, selection.name, follow=True, parts=["world", "processes"]
    )
    known: dict[str, Row] = {}
    trouble = ""
    try:
        desk.interrupt.run(session.subscribe, request)
        known = dict(session.picture.rows)
        screen.complain(f"watching {quantity.count(len(known), 'process')}; Ctrl-C ends it")
        while True:
            desk.interrupt.run(session.pushed.wait)
            session.pushed.clear()
            if session.given_up:
                raise ConnectFailed(session.trouble)
            if session.picture.trouble != trouble and session.link is not None:
                trouble = session.picture.trouble
                screen.complain(f"no news: {trouble}" if trouble else "there is news again")
            for happened in changes(known, session.picture.rows):
                result = reports.change(happened, datetime.now().strftime("%H:%M:%S"))
                screen.document(result.document) if screen.as_json else screen.lines(result.lines)
            known = dict(session.picture.rows)
    except KeyboardInterrupt:
        return Result([], {"watched": len(known)})


def events(desk: Desk, selection: Selection) -> Result:
    """What applications tell, a line each; comes back through a restart of the daemon."""
    session, screen = desk.session, desk.screen
    told = 0

    def show(rows: list[list[Any]]) -> None:
        nonlocal told
        for row in rows:
            told += 1
            result = gm_views.event(row)
            screen.document(result.document) if screen.as_json else screen.lines(result.lines)

    if not desk.interactive:  # the shell tells it already
        session.notify = screen.complain
    session.keep()
    session.on_events = show
    link = None
    try:
        while True:
            if session.given_up:
                raise ConnectFailed(session.trouble)
            if session.link is not link and session.link is not None:
                link = session.link
                begun = desk.ask(WatchEvents(selection.region, selection.machine, selection.name))
                screen.complain("watching events; Ctrl-C ends it")
                if begun.silent:
                    screen.complain(f"not from {', '.join(begun.silent)}: not connected to the router")
            desk.interrupt.wait(EVENTS_TICK_S)
    except KeyboardInterrupt:
        return Result([], {"told": told})
    finally:
        session.on_events = lambda _rows: None


def table(desk: Desk, selection: Selection) -> Result:
    """For the shell, in the terminal's second screen: what the shell showed is there again afterwards."""
    screen = desk.screen
    screen.out.write(ENTER)
    try:
        while True:
            drawn = draw(desk.session.picture, selection, desk.now(), screen.height - 2)
            head = f"watch {selection}   {datetime.now():%H:%M:%S}   Ctrl-C ends it"
            if desk.session.link is None:
                head = f"{head}   NOT CONNECTED: {desk.session.trouble}"
            elif trouble := desk.session.picture.trouble:
                head = f"{head}   OLD PICTURE: {trouble}"
            text = "\n".join(screen.dress(line) + CLEAR_LINE for line in [head, *drawn])
            screen.out.write(HOME + text + CLEAR_REST)
            screen.out.flush()
            desk.interrupt.wait(REDRAW_S)
    except KeyboardInterrupt:
        return Result([], {})
    finally:
        screen.out.write(LEAVE)
        screen.out.flush()


def draw(picture: Picture, selection: Selection, now: float, height: int) -> list[str]:
    """As many rows as fit: those that need a look come first."""
    rows = picture.select(selection)
    rows.sort(key=_needs_no_look)
    shown = rows[: max(1, height - 3)]
    text = views.process_lines([views.process(picture, row, now) for row in shown], old=bool(picture.trouble))
    counts = picture.verdicts(rows)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in sorted(counts, key=verdict_order))
    more = f"   … {len(rows) - len(shown)} more below" if len(shown) < len(rows) else ""
    return [f"{quantity.count(len(rows), 'process')}: {told}{more}", *text]


def _needs_no_look(row: Row) -> bool:
    return row.verdict in GOOD and (row.verdict == "RUNNING") == (row.wanted == "up")
