"""Pictures for admins: what each sees, what is pushed, and that nothing written by others stops it."""

import gevent
import pytest

from agent import wire
from agent.errors import AgentError, Refused, UsageError
from agent.messages import PictureChanged, WatchPicture
from roles.daemon import gallery as gallery_module
from tests.roles.daemon.standing import FAR, IP, key, world
from tests.waiting import until


@pytest.fixture
def group(standing):
    standing.configure(world(ten=["game1", "game2"], eleven=["game3"]))
    standing.user("ada", "* on *")
    standing.user("vic", f"list on *:{FAR}")
    standing.user("eve")
    return standing


@pytest.fixture
def following(monkeypatch):
    """`following(standing)`: its gallery's timer runs; the greenlet must live to the end."""
    monkeypatch.setattr(gallery_module, "TICK_S", 0.03)
    started = []

    def start(standing):
        started.append(gevent.spawn(standing.state.gallery.follow))

    yield start
    dead = [greenlet for greenlet in started if greenlet.dead]
    gevent.killall(started)
    assert not dead, "the timer died, and a daemon would stop with it"


def show(standing, user="ada", **wanted):
    peer = standing.peer(user)
    begun = standing.state.gallery.show(peer, WatchPicture(**wanted))
    return peer.link, begun


def test_the_whole_picture_comes_before_the_reply_and_begins_with_a_reset(group):
    link, begun = show(group)
    first, *rest = link.heard()
    assert first.reset and not any(part.reset for part in rest)
    assert begun.processes == 3
    assert {row[0] for part in rest for row in part.processes} == {
        key("game1"),
        key("game2"),
        key("game3", FAR),
    }
    assert {row[0] for part in rest for row in part.machines} == {IP, FAR}
    assert {(region, ip) for part in rest for region, ip, _ in part.world} == {("大区1", IP), ("大区1", FAR)}


def test_the_environment_of_a_process_is_not_for_whoever_may_look(standing):
    document = world(ten=["game1"])
    document["world"]["大区1"][IP][0] |= {"env": {"DB_PASSWORD": "hunter2"}, "agentcount": 3}
    standing.configure(document)
    standing.user("ada", "* on *")
    link, _begun = show(standing)
    ((_region, _ip, (told,)),) = [row for part in link.heard() for row in part.world]
    assert told["agentcount"] == 3 and "hunter2" not in str(told)


@pytest.mark.parametrize(("user", "sees"), [("vic", {key("game3", FAR)}), ("eve", set())])
def test_nobody_sees_more_than_he_may_list(group, user, sees):
    link, begun = show(group, user)
    assert begun.limited and not show(group)[1].limited
    heard = link.heard()
    assert {row[0] for part in heard for row in part.processes} == sees and begun.processes == len(sees)
    places = {ip for part in heard for _region, ip, _processes in part.world}
    assert places == {row[0] for part in heard for row in part.machines} == ({FAR} if sees else set())
    assert [part.regions for part in heard if part.reset] == [{"大区1": {}} if sees else {}]


def test_patterns_narrow_it_and_a_pid_does(group):
    group.record(key("game2"), pid=4242, state="RUNNING")
    assert set(show(group, name="game1,game3")[0].rows()) == {key("game1"), key("game3", FAR)}
    assert set(show(group, machine=IP)[0].rows()) == {key("game1"), key("game2")}
    assert set(show(group, pid=4242)[0].rows()) == {key("game2")}
    assert set(show(group, pid=1)[0].rows()) == set()


@pytest.mark.parametrize("wanted", [{"machine": "a,,b"}, {"name": ","}, {"region": ""}])
def test_a_pattern_that_is_none_is_refused(group, wanted):
    with pytest.raises(AgentError):
        show(group, **wanted)


def test_a_follower_hears_what_changed_and_nothing_else(group, following):
    link, _ = show(group, follow=True)
    link.heard()
    following(group)
    group.record(key("game1"), state="RUNNING", pid=77)
    rows = until(link.rows)
    assert set(rows) == {key("game1")} and rows[key("game1")]["pid"] == 77


def test_a_right_taken_away_ends_what_was_seen_by_it(group, following):
    link, _ = show(group, follow=True)
    following(group)
    link.heard()
    group.user("ada", f"list on *:{FAR}")
    group.record(key("game1"), state="FATAL")
    group.record(key("game3", FAR), state="FATAL")
    seen = {}

    def told():
        seen.update(link.rows())
        return key("game3", FAR) in seen

    until(told)
    assert set(seen) == {key("game3", FAR)}
    group.globaldb.remove_user("ada")
    until(lambda: link.closed_why)
    assert "user ada has been removed" in link.closed_why


def test_nothing_is_read_while_nobody_looks_and_a_link_that_is_gone_is_followed_no_more(
    group, following, monkeypatch
):
    reads = []
    read = group.globaldb.read_world
    monkeypatch.setattr(group.globaldb, "read_world", lambda: reads.append("") or read())
    following(group)
    link, _ = show(group, follow=True)
    until(lambda: len(reads) > 3)
    group.state.gallery.forget(link)
    gevent.sleep(0.1)
    before = len(reads)
    gevent.sleep(0.2)
    assert len(reads) == before


def test_a_link_that_ends_while_its_picture_is_made_is_not_followed(group, monkeypatch):
    peer = group.peer()
    machines = group.state.gallery._observer.machines

    def slow(ips):
        peer.link.closed_why = "hung up"
        group.state.gallery.forget(peer.link)
        return machines(ips)

    monkeypatch.setattr(group.state.gallery._observer, "machines", slow)
    group.state.gallery.show(peer, WatchPicture(follow=True))
    assert not group.state.gallery._followers


def test_what_changes_while_somebody_looks_is_told_by_the_next_tick(group, following, monkeypatch):
    """A tick between his look and his entry among the followers has told the change to the others, but not to him."""
    show(group, follow=True)
    gallery, peer = group.state.gallery, group.peer()
    whole = gallery._whole

    def slow(view, processes, look):
        yield from whole(view, processes, look)
        group.record(key("game1"), state="FATAL")
        gallery._tick()

    monkeypatch.setattr(gallery, "_whole", slow)
    gallery.show(peer, WatchPicture(follow=True))
    monkeypatch.setattr(gallery, "_whole", whole)
    assert peer.link.rows()[key("game1")]["verdict"] != "FATAL"
    gallery._tick()
    assert peer.link.rows()[key("game1")]["verdict"] == "FATAL"


def test_a_slow_admin_gets_the_newest_and_no_backlog(group):
    gallery = group.state.gallery
    link, _ = show(group, follow=True)
    gallery._tick()
    link.heard()
    link.queued_bytes = 1
    for pid in range(10, 20):
        group.record(key("game1"), pid=pid, state="RUNNING")
        gallery._tick()
    assert not link.heard()
    link.queued_bytes = 0
    gallery._tick()
    heard = link.heard()
    assert heard[0].reset
    (row,) = [row for part in heard for row in part.processes if row[0] == key("game1")]
    assert row[3] == 19


def test_equal_views_share_their_bytes_and_the_rights_of_another_do_not(group):
    gallery = group.state.gallery
    group.user("bob", "* on *")
    ada, bob, vic = (show(group, user, follow=True)[0] for user in ("ada", "bob", "vic"))
    gallery._tick()
    for link in (ada, bob, vic):
        link.heard()
    group.record(key("game3", FAR), state="FATAL")
    gallery._tick()
    assert ada.frames and ada.frames[0] is bob.frames[0]
    assert vic.frames and vic.frames[0] is not ada.frames[0]


def test_those_who_fell_behind_share_the_bytes_of_the_whole_picture(group):
    gallery = group.state.gallery
    group.user("bob", "* on *")
    ada, bob = (show(group, user, follow=True)[0] for user in ("ada", "bob"))
    gallery._tick()
    for link in (ada, bob):
        link.heard()
        link.queued_bytes = 1
    gallery._tick()
    for link in (ada, bob):
        link.queued_bytes = 0
    gallery._tick()
    assert ada.frames and [id(frame) for frame in ada.frames] == [id(frame) for frame in bob.frames]
    assert ada.heard()[0].reset


def test_long_words_of_applications_come_in_frames_that_a_link_takes(group):
    names = [f"game{n}" for n in range(40)]
    group.configure(world(ten=names))
    for name in names:
        group.record(key(name), info='{"x": "' + "y" * 200_000 + '"}', state="RUNNING")
    group.record(key("game7"), info='{"x": "' + "z" * 5_000_000 + '"}')
    link, _ = show(group)
    assert max(map(len, link.frames)) <= wire.MAX_FRAME_BYTES
    rows = link.rows()
    assert set(rows) == {key(name) for name in names}
    assert (
        rows[key("game7")]["info"].keys() == {"too_long"} and len(rows[key("game8")]["info"]["x"]) == 200_000
    )


def test_a_picture_waits_for_an_admin_who_reads_slowly(group):
    peer = group.peer()
    peer.link.queued_bytes = gallery_module.QUEUED_BYTES + 1
    showing = gevent.spawn(group.state.gallery.show, peer, WatchPicture())
    gevent.sleep(0.1)
    assert len(peer.link.frames) == 1 and not showing.ready()
    peer.link.queued_bytes = 0
    showing.get(timeout=5)
    assert len(peer.link.heard()) == 4


ODD = [{"lastupdate": "inf"}, {"lastupdate": "nan"}, {"since": "1e999"}, {"info": '{"a": Infinity}'}, {"pid": "x"},
       {"info": '{"a": "\\ud800"}'}, {"startcount": "9" * 5000}, {"usage": "[1"}, {"state": "\x1b[2J"},
       {"info": '{"a":' * 1000 + "1" + "}" * 1000}]  # fmt: skip


@pytest.mark.parametrize("fields", ODD, ids=[next(iter(odd)) for odd in ODD])
def test_an_odd_record_stops_neither_the_picture_nor_the_timer(group, following, fields):
    link, _ = show(group, follow=True)
    following(group)
    group.record(key("game1"), **fields)
    group.globaldb.write_machine(IP, '{"skew_s": ' + "9" * 400 + "}", 1.0)
    group.record(key("game2"), state="FATAL")
    rows = {}

    def told():
        rows.update(link.rows())
        return rows.get(key("game2"), {}).get("verdict") == "FATAL"

    until(told)
    assert set(show(group)[0].rows()) == {key("game1"), key("game2"), key("game3", FAR)}


def test_a_damaged_user_ends_his_own_session_only(group, following):
    group.user("bob", "* on *")
    ada, bob = (show(group, user, follow=True)[0] for user in ("ada", "bob"))
    following(group)
    group.globaldb.store.hset("user", "ada", "{}")
    until(lambda: ada.closed_why)
    group.record(key("game1"), state="FATAL")
    until(bob.rows)
    assert "is damaged" in ada.closed_why and not bob.closed_why


def test_globaldb_may_go_away_and_come_back(frail, following):
    frail.configure(world(ten=["game1"]))
    frail.user("ada", "* on *")
    link, _ = show(frail, follow=True)
    following(frail)
    frail.server.stop()
    gevent.sleep(0.2)
    link.heard()
    frail.server.start()
    frail.record(key("game1"), state="FATAL")
    assert until(link.rows)[key("game1")]["verdict"] == "FATAL"


def test_who_follows_is_told_once_that_globaldb_is_away_and_once_that_it_is_back(frail, following):
    frail.configure(world(ten=["game1"]))
    frail.user("ada", "* on *")
    early, _ = show(frail, follow=True)
    following(frail)
    frail.server.stop()
    told = []
    until(lambda: told.extend(early.heard()) or [notice for notice in told if notice.trouble])
    late = frail.peer()
    with pytest.raises(AgentError):
        frail.state.gallery.show(late, WatchPicture(follow=True))
    (trouble,) = until(late.link.heard)
    assert trouble.trouble and not trouble.reset
    gevent.sleep(0.2)
    assert not [notice for notice in early.heard() if notice.trouble], "told once only"
    frail.server.start()
    told = []
    until(lambda: told.extend(late.link.heard()) or any(notice.processes for notice in told))
    assert told[0].reset and not any(notice.trouble for notice in told)
    assert not until(early.heard)[-1].trouble


def test_a_pattern_that_is_none_is_refused_with_globaldb_away_too(frail):
    frail.user("ada", "* on *")
    frail.state.rights.grants("ada")
    frail.server.stop()  # before the world was ever read: nothing else looks at the pattern
    with pytest.raises(UsageError):
        show(frail, machine="a,,b", follow=True)
    assert not frail.state.gallery._followers


def test_a_picture_of_a_world_that_was_never_read_is_refused(frail):
    frail.user("ada", "* on *")
    frail.state.rights.grants("ada")
    frail.server.stop()
    with pytest.raises(Refused, match="not known"):
        show(frail)


def test_notices_are_never_mistaken(group):
    assert all(isinstance(notice, PictureChanged) for notice in show(group)[0].heard())
