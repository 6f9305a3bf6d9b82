"""What applications tell: kept, bounded, and told live to who may see it; nobody waits for anybody."""

import math
import time

import gevent
import pytest

from agent import messages
from agent.errors import Refused
from agent.messages import EventRaised, EventsHappened, ReadEvents, SubscribeEvents, WatchEvents
from roles.daemon import event_stream as module
from roles.daemon import handlers
from tests.roles.daemon.standing import FAR, IP, key, world
from tests.roles.daemon.test_operation import Dialer
from tests.waiting import until

G1, G2, F3 = key("game1"), key("game2"), key("game3", FAR)


class RouterLink:
    """Takes notices for the daemons beyond."""

    def __init__(self):
        self.sent = []
        self.queued_bytes = 0

    def notify(self, message, dst=b""):
        self.sent.append((dst.decode(), message))
        return True


@pytest.fixture
def group(standing):
    standing.configure(world(ten=["game1", "game2"], eleven=["game3"]))
    standing.user("ada", "* on *")
    standing.user("kim", f"events on *:{IP}.game1")
    standing.user("nil", "list on *")
    standing.state.refresh_configuration()
    following = []
    standing.follow = lambda: following.append(gevent.spawn(standing.state.events.follow))
    yield standing
    gevent.killall(following)


@pytest.fixture
def link(group):
    made = RouterLink()
    group.state.presence.dialer = Dialer(made)
    group.state.presence._machines = {FAR: {}}
    return made


def raise_(group, name="x", data=None, at=1.5, key_=G1):
    group.state.events.raised(key_, EventRaised(name, data, at))


def kept(group, *keys):
    return group.globaldb.read_events(list(keys) or [G1, G2], 1000)


def watching(group, user="ada", **patterns):
    peer = group.peer(user)
    handlers.watch_events(group.state, peer, WatchEvents(**patterns))
    return peer.link


def tell(group):
    """What `follow` does at each turn, without its pauses."""
    group.state.events._tell()


def heard(link):
    return [row for notice in link.heard() for row in notice.events]


# ---- kept


def test_an_event_is_kept_and_told(group):
    group.follow()
    link = watching(group)
    raise_(group, "boss_killed", {"who": ["大", None]}, 5.1234)
    row = [G1, 5.123, "boss_killed", {"who": ["大", None]}]
    until(lambda: kept(group) == [row])
    assert heard(link) == [row]


@pytest.mark.parametrize(
    "event",
    [
        EventRaised(""),
        EventRaised("x" * 65),
        EventRaised("a\nb"),
        EventRaised("\ud800"),
        EventRaised("x", "y" * module.MAX_DATA_BYTES),
        EventRaised("x", ["大" * 1000] * 3),
    ],
)
def test_an_event_that_is_not_as_it_should_be_is_refused(group, event):
    with pytest.raises(Refused) as no:
        group.state.events.raised(G1, event)
    assert no.value.code == "bad_request" and not group.state.events._unstored


@pytest.mark.parametrize("at", [0.0, -1.0, math.nan, math.inf, 1e300])
def test_a_time_that_is_none_is_ours(group, at):
    raise_(group, at=at)
    assert abs(group.state.events._unstored[0][1] - time.time()) < 5


@pytest.mark.parametrize("data", ["\ud800", {"\udfff": math.nan}, [2**70], "x" * (module.MAX_DATA_BYTES - 2)])
def test_whatever_json_can_say_can_be_kept_and_told(group, data):
    group.follow()
    link = watching(group)
    raise_(group, data=data), raise_(group, "next")
    until(lambda: len(kept(group)) == 2)
    assert [row[2] for row in heard(link)] == ["x", "next"]


def test_a_flood_is_cut_and_the_next_that_is_kept_tells_how_much(group, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("roles.daemon.event_stream.time.monotonic", lambda: now[0])
    for _ in range(700):
        raise_(group)
    raise_(group, key_=G2)
    assert len(group.state.events._unstored) == module.BURST + 1
    now[0] += 1.0
    for _ in range(100):
        raise_(group, "later")
    rows = list(group.state.events._unstored)[int(module.BURST) + 1 :]
    assert rows[0][2:] == ["events_dropped", {"count": 200}] and len(rows) == 1 + module.RATE
    monkeypatch.undo()


def test_what_waits_for_globaldb_is_kept_in_order_when_it_is_back(frail, monkeypatch):
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    monkeypatch.setattr(module, "COLLECT_S", 0.01)
    following = gevent.spawn(frail.state.events.follow)
    frail.server.stop()
    for number in range(20):
        raise_(frail, f"e{number}", at=1.0 + number)
    gevent.sleep(0.2)
    raise_(frail, "last", at=99.0)
    frail.server.start()
    until(lambda: len(kept(frail)) >= 21, 20)
    names = [row[2] for row in kept(frail)]
    assert list(dict.fromkeys(names)) == [*(f"e{number}" for number in range(20)), "last"]
    following.kill()


def test_what_waits_for_globaldb_is_bounded_and_the_oldest_go(group, monkeypatch):
    events = module.EventStream(
        group.globaldb, group.state.rights, group.state.presence, group.state.process_of
    )
    assert events._unstored.maxlen == module.WAITING
    monkeypatch.setattr(events._rate, "take", lambda key, now: True)
    for number in range(module.WAITING + 5):
        events.raised(G1, EventRaised(f"e{number}"))
    assert events._unstored[0][2] == "e5"


# ---- who watches here


def test_a_watcher_gets_what_he_asked_for_and_may_see(group):
    everything, one, own = watching(group), watching(group, name="game2"), watching(group, "kim")
    raise_(group, "a"), raise_(group, "b", key_=G2)
    tell(group)
    assert [row[2] for row in heard(everything)] == ["a", "b"]
    assert [row[2] for row in heard(one)] == ["b"] and [row[2] for row in heard(own)] == ["a"]


def test_who_has_no_right_to_any_events_is_refused(group):
    with pytest.raises(Refused, match="user nil may not see events: it needs the grant") as no:
        watching(group, "nil")
    assert no.value.code == "forbidden"


def test_rights_are_those_of_the_moment(group):
    link = watching(group, "kim")
    group.user("kim", "list on *")
    raise_(group)
    tell(group)
    assert heard(link) == []
    group.globaldb.remove_user("kim")
    raise_(group), tell(group)
    group.user("kim", "events on *")
    raise_(group, "again"), tell(group)
    assert [row[2] for row in heard(link)] == ["again"]


def test_a_second_watch_of_one_link_takes_the_place_of_the_first(group):
    peer = group.peer()
    for name in ("game1", "game2"):
        handlers.watch_events(group.state, peer, WatchEvents(name=name))
    raise_(group, "a"), raise_(group, "b", key_=G2)
    tell(group)
    assert [row[2] for row in heard(peer.link)] == ["b"] and len(group.state.events._watches) == 1


def test_who_has_left_is_told_nothing_more_anywhere(group, link):
    watcher = watching(group)
    group.state.events.forget(watcher)
    raise_(group), tell(group)
    assert heard(watcher) == [] and not group.state.events._subscriptions
    begun, over = [message for _, message in link.sent]
    assert (begun.term_s, over.term_s, begun.id) == (module.TERM_S, 0.0, over.id)


def test_a_slow_watcher_is_passed_over_and_told_how_much_he_missed(group):
    slow, quick = watching(group, "kim"), watching(group)
    slow.queued_bytes = module.QUEUED_BYTES + 1
    for _ in range(3):
        raise_(group), raise_(group, key_=G2), tell(group)
    assert heard(slow) == [] and len(heard(quick)) == 6
    slow.queued_bytes = 0
    raise_(group, "next"), tell(group)
    missed, new = heard(slow)
    assert (
        missed[2:] == ["events_dropped", {"count": 3, "why": "this watcher is too slow"}] and new[2] == "next"
    )
    raise_(group, "after"), tell(group)
    assert [row[2] for row in heard(slow)] == ["after"]


def test_many_large_events_travel_in_frames_that_can_be_read(group, monkeypatch):
    link = watching(group)
    monkeypatch.setattr(group.state.events._rate, "take", lambda key, now: True)
    for _ in range(200):
        raise_(group, data="大" * 2700)
    tell(group)
    assert max(map(len, link.frames)) < 1024 * 1024 and len(heard(link)) == 200


def test_machines_that_cannot_be_asked_are_named(group, link):
    assert handlers.watch_events(group.state, group.peer(), WatchEvents()).silent == []
    group.state.presence._machines = {}
    assert handlers.watch_events(group.state, group.peer(), WatchEvents()).silent == [FAR]
    assert handlers.watch_events(group.state, group.peer(), WatchEvents(name="game1")).silent == []


# ---- daemons among themselves


def subscribed(group, user="ada", term_s=30.0, id_="s1", ip=FAR, **patterns):
    fields = {"region": "*", "machine": "*", "name": "*", **patterns}
    handlers.subscribe_events(
        group.state, group.peer(ip, "daemon"), SubscribeEvents(id_, user, term_s=term_s, **fields)
    )


def test_another_daemon_is_told_for_its_admin_and_only_what_that_one_may_see(group, link):
    subscribed(group, "kim"), subscribed(group, "nil", id_="s2"), subscribed(group, "nobody", id_="s3")
    raise_(group, "a"), raise_(group, "b", key_=G2), tell(group)
    ((ip, notice),) = link.sent
    assert (ip, notice.id, [row[2] for row in notice.events]) == (FAR, "s1", ["a"])


def test_a_term_that_is_over_is_over_and_one_that_was_said_anew_is_not(group, link, monkeypatch):
    now = [time.monotonic()]
    monkeypatch.setattr("roles.daemon.event_stream.time.monotonic", lambda: now[0])
    subscribed(group, id_="s1"), subscribed(group, id_="s2")
    now[0] += 25
    subscribed(group, id_="s2")
    now[0] += 25
    raise_(group), tell(group)
    assert [notice.id for _, notice in link.sent] == ["s2"] and len(group.state.events._subscriptions) == 1
    subscribed(group, id_="s2", term_s=0.0)
    assert not group.state.events._subscriptions
    subscribed(group, term_s=1e9)
    now[0] += 11 * module.TERM_S
    tell(group)
    assert not group.state.events._subscriptions, "nobody subscribes for ever"
    monkeypatch.undo()


def test_one_that_ends_while_another_is_told_is_gone_and_nothing_else_happens(group, link, monkeypatch):
    """Rights are read from globaldb in between, and whatever raised here would end the daemon."""
    subscribed(group, id_="s1"), subscribed(group, id_="s2")
    stream = group.state.events
    for subscription in list(stream._subscriptions.values())[1:]:
        subscription.until = 0.0
    told = stream._tell_one

    def ending(*words):
        subscribed(group, id_="s2", term_s=0.0)
        told(*words)

    monkeypatch.setattr(stream, "_tell_one", ending)
    raise_(group), tell(group)
    assert [notice.id for _, notice in link.sent] == ["s1"] and len(stream._subscriptions) == 1


def test_a_subscription_that_is_said_anew_otherwise_is_another(group, link):
    subscribed(group, name="game1"), subscribed(group, name="game2")
    raise_(group, "a"), raise_(group, "b", key_=G2), tell(group)
    assert [row[2] for _, notice in link.sent for row in notice.events] == ["b"]


def test_without_a_router_what_was_for_others_counts_as_missed(group, link):
    subscribed(group)
    group.state.presence.dialer = None
    raise_(group), raise_(group), tell(group)
    group.state.presence.dialer = Dialer(link)
    raise_(group, "next"), tell(group)
    missed, _new = link.sent[0][1].events
    assert missed[2:] == ["events_dropped", {"count": 2, "why": "this watcher is too slow"}]


def test_others_are_asked_at_once_and_again_before_the_term_is_over(group, link, monkeypatch):
    watching(group, "kim", name="game*")
    ((ip, first),) = link.sent
    assert (ip, first.user, first.name, first.term_s) == (FAR, "kim", "game*", module.TERM_S)
    assert module.RENEW_S * 2 < module.TERM_S
    group.state.events._renew()
    group.state.events._renew()
    assert [message for _, message in link.sent] == [first, first]


def test_what_happened_elsewhere_goes_to_the_admin_who_watches(group, link):
    watcher = watching(group)
    id_ = link.sent[0][1].id
    row = [F3, 1.0, "far", None]
    for ip, notice in (
        (
            FAR,
            EventsHappened(
                [row, [G1, 1.0, "a lie", None], "rubbish", [F3], [None] * 4, ["\n", 1, 2, 3]], id_
            ),
        ),
        ("192.168.1.12", EventsHappened([row], id_)),
        (FAR, EventsHappened([row], "another")),
    ):
        handlers.events_happened(group.state, group.peer(ip, "daemon"), notice)
    assert heard(watcher) == [row]


# ---- what is kept, read


def test_the_newest_that_one_may_see_are_read(group):
    for number in range(5):
        group.globaldb.append_events({G1: [f'[{number}, "a", 0]'], G2: [f'[{number}.5, "b", 0]']})
    read = lambda user, **more: handlers.read_events(group.state, group.peer(user), ReadEvents(**more)).events  # noqa: E731
    assert [row[:2] for row in read("ada", count=3)] == [[G2, 3.5], [G1, 4.0], [G2, 4.5]]
    assert (
        {row[0] for row in read("kim")} == {G1}
        and len(read("ada", count=-5)) == 1
        and len(read("ada", count=10**9)) == 10
    )
    assert {row[0] for row in read("ada", name="game2")} == {G2} and read("ada", name="nothing") == []
    with pytest.raises(Refused, match="user nil may not see events there"):
        read("nil")


def test_a_thousand_of_each_process_are_kept_and_no_more(globaldb_url):
    """On every server."""
    from agent.globaldb import GlobalDb
    from agent.store import Store

    store = Store(globaldb_url)
    events = module.EventStream(GlobalDb(store), None, None, None)
    events._rate.take = lambda key, now: True
    for number in range(1500):
        events.raised(G1, EventRaised(f"e{number}", at=1.0 + number))
    events._store()
    assert not events._unstored and 1000 <= store.llen(f"events:{G1}") <= 1064
    assert [row[2] for row in GlobalDb(store).read_events([G1], 1000)] == [
        f"e{number}" for number in range(500, 1500)
    ]
    store.close()


def test_every_message_of_events_is_for_whom_it_should_be():
    rows = handlers.TABLE.rows
    assert rows[messages.WatchEvents].ask == rows[messages.ReadEvents].ask == {"admin"}
    assert rows[messages.SubscribeEvents].ask == rows[messages.EventsHappened].ask == {"daemon"}
