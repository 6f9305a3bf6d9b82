"""The Python client: the parts that have no socket, each alone, and held against the agent's own."""

import random
import unicodedata

import pytest
import scramp
from scramp.utils import ScramException, saslprep

from agent import gm, messages, outcome, task
from agent.errors import EXIT_CODES, AgentError
from agent.handshake import binding
from agent.proof import BINDING
from agent.proof import ClientProof as AgentsProof
from agent.selection import Selection
from sdk.python import agentsdk
from sdk.python.agentsdk import change, client, dialer, report, selection
from sdk.python.agentsdk.change import Backlog
from sdk.python.agentsdk.picture import OVERDUE_S, Viewer
from sdk.python.agentsdk.proof import MOST_ROUNDS, ClientProof
from sdk.python.agentsdk.report import Event, Process
from sdk.python.agentsdk.saslprep import prepared

# ---- targets


TARGETS = (
    "game1 game1,game2 * all 大区1:*.chatserver *:192.168.1.10.game* 大区1.192.168.1.10.game1 192.168.1.10 192.168.*.*"
    " 大区1:192.168.1.10 大区1,大区2:game1 *.game1 192.168.1.10.all 大区1:all all:all 大区*.192.168.1.10.game1 a:b:c"
    " :x x: game1,,game2 1.2.3.4,5.6.7.8.game1 a,:b 大区1.192.168.1.300.game1 , 大区1.192.168.1.10.a,b"
    " [ab].1.2.3.4.x"
)


@pytest.mark.parametrize("target", [*TARGETS.split(), "", " "])
def test_a_target_reads_as_it_does_for_operators(target: str) -> None:
    try:
        expected = Selection.parse_target(target)
    except AgentError:
        with pytest.raises(ValueError):
            selection.parsed(target)
        return
    assert selection.parsed(target) == (expected.region, expected.machine, expected.name)


@pytest.mark.parametrize("target", [".x", "x.", ".", "192.168.1.10.", "大区1:192.168.1.10."])
def test_a_place_without_a_name_is_never_everything_there(target: str) -> None:
    with pytest.raises(ValueError):
        selection.parsed(target)


def test_an_address_may_leave_out_the_port() -> None:
    assert dialer.parsed("192.168.1.10") == ("192.168.1.10", 8889, False, "", "", "")
    assert dialer.parsed("[::1]:99")[:2] == ("::1", 99) and dialer.parsed("[::1]")[:2] == ("::1", 8889)
    for wrong in ("", "a:b", "user@host:1", "::1:2:3:x", "host:99999"):
        with pytest.raises(ValueError):
            dialer.parsed(wrong)


# ---- names and passwords


def prepared_by_scramp(text: str) -> str | None:
    try:
        return str(saslprep(text))
    except ScramException:
        return None


def prepared_by_us(text: str) -> str | None:
    try:
        return prepared(text)
    except ValueError:
        return None


PASSWORDS = (
    *(
        "user",
        "I\u00adX",
        "ª",
        "Ⅸ",
        "a\u00a0b",
        "パスワード",
        "密码 1",
        "pässwörd",
        "a\u0308",
        "\u05d01\u05d1",
    ),
    *(
        "\u05d0a",
        "a\u05d0",
        "\u05d0a\u05d0",
        "\u0007",
        "\u200b",
        "\u06271",
        "\u06271\u0628",
        "\ue000",
        "\ufffd",
    ),
    *(
        "\U0001f600",
        "\udabc",
        "",
        "\u00ad",
        "ｆｕｌｌ",
        "e\u0301",
        "\u2028",
        "\u202e",
        "\U000e0001",
        "\u0221",
        "a\u1680b",
    ),
)


@pytest.mark.parametrize("text", PASSWORDS, ids=ascii)
def test_a_password_is_prepared_as_daemons_do_it(text: str) -> None:
    assert prepared_by_us(text) == prepared_by_scramp(text)


def test_any_password_is_prepared_as_daemons_do_it() -> None:
    chance = random.Random(4013)
    ranges = [
        (0x20, 0x7F),
        (0x80, 0x250),
        (0x300, 0x370),
        (0x590, 0x700),
        (0x2000, 0x2100),
        (0x3040, 0xA000),
        (0xF900, 0x10000),
    ]
    for _ in range(3000):
        text = "".join(chr(chance.randrange(*chance.choice(ranges))) for _ in range(chance.randint(1, 4)))
        assert prepared_by_us(text) == prepared_by_scramp(text), ascii(text)


# ---- the proof


@pytest.mark.parametrize(
    "password", ["correct horse battery", "пароль", unicodedata.normalize("NFD", "pässwörd")]
)
def test_a_proof_is_accepted_by_scramp_and_the_other_way_round(password: str) -> None:
    certificate = b"any certificate"
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256-PLUS")
    kept = mechanism.make_auth_info(unicodedata.normalize("NFC", password))
    server = mechanism.make_server(lambda _name: kept, channel_binding=(BINDING, binding(certificate)))
    proof = ClientProof("a=b,c", password, certificate)
    server.set_client_first(proof.first)
    server.set_client_final(proof.final(server.get_server_first()))
    proof.verify(server.get_server_final())
    with pytest.raises(ValueError, match="wrong signature"):
        proof.verify("v=" + "A" * 43 + "=")


def test_a_proof_is_that_of_the_agent() -> None:
    mine, agents = ClientProof("ada", "x", b"c", "nonce"), AgentsProof("ada", "x", binding(b"c"), "nonce")
    first = "r=nonceandmore,s=c2FsdA==,i=4096"
    assert (mine.first, mine.final(first)) == (agents.first, agents.final(first))
    assert mine.final(first) != ClientProof("ada", "x", b"another certificate", "nonce").final(first)


@pytest.mark.parametrize(
    "server_first",
    ["", "r=nonce,s=c2FsdA==,i=4096", "r=other,s=c2FsdA==,i=4096", "r=nonce1,s=!,i=4096", "r=nonce1,s=c2FsdA==,i=4095",
     f"r=nonce1,s=c2FsdA==,i={MOST_ROUNDS + 1}", "r=nonce1,s=c2FsdA==,i=9999999999", "r=nonce1,s=c2FsdA==,i=x",
     "r=nonce1,s=c2FsdA==,i=4096,x=1", "r=nonceé,s=c2FsdA==,i=4096", "m=x,r=nonce1,s=c2FsdA==,i=4096"],
)  # fmt: skip
def test_a_server_that_asks_for_nonsense_gets_no_proof(server_first: str) -> None:
    with pytest.raises(ValueError):
        ClientProof("ada", "x", b"c", "nonce").final(server_first)


def test_no_signature_is_believed_before_there_was_a_proof() -> None:
    with pytest.raises(ValueError):
        ClientProof("ada", "x", b"c").verify("v=")


# ---- what daemons say


def test_codes_are_those_of_the_agent_and_what_is_left_open_is_never_a_no() -> None:
    told = {code: type(client.error_of(code, "text")).__name__ for code in EXIT_CODES}
    in_doubt = {code for code, name in told.items() if name not in ("Refused", "Forbidden", "NotConfirmed")}
    assert in_doubt == {"timed_out", "forgotten", "internal"}
    assert EXIT_CODES.keys() >= client.NOTHING_DONE
    assert (told["forbidden"], told["unconfirmed"], told["timed_out"]) == (
        "Forbidden",
        "NotConfirmed",
        "NoReply",
    )
    assert isinstance(client.error_of("a newer daemon's", ""), agentsdk.OutcomeUnknown)


def test_a_question_is_what_a_person_is_asked() -> None:
    for text in (
        "x is red (a); confirm it (--yes in scripts)",
        "x is red (a): confirm it (--yes in scripts)",
        "x is red (a)",
    ):
        error = client.error_of("unconfirmed", text)
        assert isinstance(error, agentsdk.NotConfirmed) and error.question == "x is red (a)"


def test_words_of_verdicts_results_and_phases_are_those_of_the_agent() -> None:
    for result in outcome.RESULTS:
        theirs, ours = outcome.Outcome("", result), report.Outcome("", result)
        assert (ours.good, ours.in_doubt) == (theirs.good, result == outcome.UNKNOWN)
    for verdict in gm.VERDICTS:
        answer = report.Answer("", verdict)
        assert (answer.good, answer.in_doubt) == (gm.Answer("", verdict).good, verdict in gm.IN_DOUBT)
    assert set(report.ACTIVE_PHASES) == task.ACTIVE
    assert set(report.Task._fields) <= set(task.Task.__slots__)


def test_a_word_that_nobody_knows_is_in_doubt_and_never_good() -> None:
    for one in (report.Outcome("", "splendid"), report.Answer("", "splendid")):
        assert one.in_doubt and not one.good
    assert not report.Gm("1", []).good
    assert report.Gm("1", [report.Answer("", "splendid")]).in_doubt


def test_what_newer_daemons_add_is_cut_and_what_cannot_be_read_is_told() -> None:
    assert report.read_outcomes([["a", "ok", "", 1, "new"]]) == [report.Outcome("a", "ok", "", 1)]
    assert report.read_answers([["a", "answered", {"b": 1}, "", "new"]])[0].answer == {"b": 1}
    for wrong in (
        None,
        {},
        [1],
        [["a"]],
        [["a", "ok", "", "1"]],
        [[1, "ok", "", 1]],
        [["a", "ok", "", True]],
    ):
        with pytest.raises(ValueError):
            report.read_outcomes(wrong)
    (command,) = report.read_catalogue(
        {"processes": [["a", "game", "d"], ["b", "game", ""]], "commands": {"d": [
            {"name": "kick", "new": 1, "arguments": [{"name": "n", "type": "int"}, {"name": "r", "default": "x"}]}]}}
    ).offers[0].commands.values()  # fmt: skip
    assert command.danger == "write" and [each.required for each in command.arguments] == [True, False]


# ---- pictures


def row(key: str, verdict: str = "RUNNING", pid: int = 1) -> list:
    told = {"key": key, "verdict": verdict, "wanted": "up", "pid": pid, "age_s": 0.5, "startcount": 1, "since_at": 9.5,
            "exit": "", "info": {"players": 3}, "started_at": 9.0}  # fmt: skip
    return [told[column] for column in messages.PROCESS_COLUMNS]


def key(name: str) -> str:
    return f"大区1.1.2.3.4.{name}"


def world(*names: str) -> list:
    return [["大区1", "1.2.3.4", [{"name": name, "type": "game"} for name in names]]]


def test_a_row_becomes_a_process() -> None:
    viewer = Viewer()
    viewer.apply({"world": world("game1")}, 0)
    viewer.apply({"processes": [row(key("game1"))]}, 0)
    assert viewer.picture.processes[key("game1")] == Process(
        key("game1"),
        "大区1",
        "1.2.3.4",
        "game1",
        "game",
        "RUNNING",
        "up",
        1,
        0.5,
        1,
        {"players": 3},
        9.5,
        "",
        9.0,
    )


def test_half_of_a_picture_is_shown_to_nobody() -> None:
    viewer = Viewer()
    viewer.apply({"world": world("a"), "processes": [row(key("a"))]}, 0)
    viewer.apply({"reset": True}, 1)
    viewer.apply({"world": world("a", "b"), "processes": [row(key("a"), "DEAD")]}, 1)
    assert viewer.picture.processes[key("a")].verdict == "RUNNING"
    assert viewer.apply({"processes": [row(key("b"))]}, 1) == [key("a"), key("b")]
    assert viewer.picture.processes[key("a")].verdict == "DEAD"


def test_an_empty_picture_is_shown_when_it_is_overdue() -> None:
    viewer = Viewer()
    viewer.apply({"world": world("a"), "processes": [row(key("a"))]}, 0)
    viewer.apply({"reset": True}, 1)
    assert viewer.look(1 + OVERDUE_S) == [] and viewer.look(1.1 + OVERDUE_S) == [key("a")]
    assert not viewer.picture.processes


# ---- a listener who is slow


def process(name: str, verdict: str, pid: int = 1) -> Process:
    return Process(key(name), "大区1", "1.2.3.4", name, verdict=verdict, pid=pid)


def told(backlog: Backlog, processes: dict[str, Process]) -> list[tuple]:
    changes = []
    while (one := backlog.next(processes)) is not None:
        changes.append(
            (one.kind, one.old, one.new) if one.kind == change.PROCESS else (one.kind, one.missed or one.text)
        )
    return changes


def test_of_a_process_only_the_newest_state_waits() -> None:
    backlog, now = Backlog(), {key("a"): process("a", "STARTING")}
    backlog.touched(now)
    for verdict in ("RUNNING", "DEAD", "BACKOFF"):
        now[key("a")] = process("a", verdict)
        backlog.touched(now)
    assert told(backlog, now) == [("process", "", "BACKOFF")]
    now[key("a")] = process("a", "BACKOFF")
    backlog.touched(now)
    assert told(backlog, now) == []
    now[key("a")] = process("a", "BACKOFF", pid=2)
    backlog.touched(now)
    assert told(backlog, now) == [("process", "BACKOFF", "BACKOFF")]
    del now[key("a")]
    backlog.touched([key("a")])
    assert told(backlog, now) == [("process", "BACKOFF", "")]


def test_events_that_had_to_go_are_counted_and_the_newest_stay() -> None:
    backlog = Backlog()
    backlog.events(Event("a", float(n), "e") for n in range(change.MAX_EVENTS + 7))
    first, *rest = told(backlog, {})
    assert first == ("missed", 7) and len(rest) == change.MAX_EVENTS
    backlog.events(Event("a", float(n), "e") for n in range(change.MAX_EVENTS + 7))
    assert backlog.next({}).missed == 7 and backlog.next({}).event.at == 7.0


def test_markers_do_not_pile_up_and_the_last_word_is_true() -> None:
    backlog = Backlog()
    for n in range(100):
        backlog.trouble(f"lost {n}")
        backlog.trouble(f"lost again {n}")
        backlog.reconnected(f"back {n}")
    for _ in range(100):
        backlog.trouble("lost")
    assert told(backlog, {}) == [("reconnected", "back 99"), ("trouble", "lost")]
