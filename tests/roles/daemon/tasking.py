"""A machine with one running game, its application and its record, for the tests of tasks."""

import gevent

from roles.daemon.agenda import KIND_OF, Agenda
from tests.roles.daemon.applying import Game
from tests.roles.daemon.standing import key, world
from tests.waiting import until

G1 = key("game1")
WAIT_S = 10


class Scene:
    """`log` has, in their order, the phases that were written and what the application was asked."""

    def __init__(self, standing, monkeypatch):
        monkeypatch.setattr("roles.daemon.errand.LOOK_S", 0.01)
        monkeypatch.setattr("roles.daemon.errand.RETRY_S", 0.01)
        monkeypatch.setattr("roles.daemon.agenda.FOLLOW_S", 0.01)
        standing.configure(world(ten=["game1"]))
        standing.state.refresh_configuration()
        self.standing, self.state = standing, standing.state
        self.keeper = standing.state.keepers[G1]
        self.log: list[str] = []
        self.ours = True
        self.agenda = self.daemon()
        self._at = 100.0
        write = standing.globaldb.write_task
        monkeypatch.setattr(
            standing.globaldb, "write_task", lambda task: (self.log.append(task.phase), write(task))
        )

    def daemon(self) -> Agenda:
        """Another one, that knows only what globaldb has."""
        return Agenda(
            self.state.ip,
            self.standing.globaldb,
            self.state.keepers,
            self.state.applications,
            lambda: self.ours,
        )

    def start(self, players: int | None = 3, **more) -> Game:
        assert self.keeper.start(WAIT_S).result == "ok"
        self.report(players)
        return self.join(**more)

    def join(self, **more) -> Game:
        self.game = Game(self.state.applications, G1, self.keeper.incarnation, **{"saves": False, **more})
        for request, answer in list(self.game.answers.items()):
            self.game.answers[request] = self._noted(answer)
        return self.game

    def _noted(self, answer):
        def note(asked):
            what = f"entry {asked.open}" if hasattr(asked, "open") else type(asked).__name__
            self.log.append(what)
            return answer(asked) if callable(answer) else answer

        return note

    def report(self, players: int | None) -> None:
        self._at += 1
        info = "{}" if players is None else f'{{"players": {players}}}'
        self.standing.record(G1, info=info, lastupdate=self._at)

    def begin(self, kind="drain", deadline_s=0.0, notice=""):
        return self.agenda.begin(KIND_OF[kind], G1, "ada", "10.0.0.9:1", deadline_s, notice)

    @property
    def task(self):
        """As it stands in globaldb."""
        return self.standing.globaldb.read_tasks().get(G1)

    def phase(self, wanted: str):
        return until(
            lambda: (task := self.task) and task.phase == wanted and task, what=f"{wanted}, not {self.log}"
        )

    def looks(self, count: int = 3) -> None:
        """It has looked so often since."""
        gevent.sleep(0.02 * count)

    def empty(self) -> None:
        """Reports of nobody, until something follows from them."""
        for _ in range(3):
            self.report(0)
            self.looks()

    @property
    def phases(self) -> list[str]:
        """Each once, as they were written."""
        return list(dict.fromkeys(word for word in self.log if word.islower() and " " not in word))
