"""The pages are in step with the code and with each other."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from agent import gm, verdict
from agent.errors import EXIT_CODES
from agent.globaldb import RECORD_FIELDS
from agent.grant import VERBS as GRANTED
from agent.outcome import RESULTS
from agent.program import FIELDS, LaunchSpec
from roles.admin import grammar

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.md")]
CONTRACT = (ROOT / "docs" / "globaldb.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()
ENGLISH, CHINESE = (ROOT / "README.md").read_text(), (ROOT / "README.zh-CN.md").read_text()


def rows(text: str, header: str) -> dict[str, list[str]]:
    """The table whose header row begins so: every `word` of the first column -> the cells."""
    lines = text[text.index(header) :].splitlines()[2:]
    table: dict[str, list[str]] = {}
    for line in lines:
        if not line.startswith("|"):
            break
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        for word in re.findall(r"`([^`]+)`|\b([A-Z]{4,})\b", cells[0]):
            table["".join(word)] = cells
    return table


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_the_contract_has_every_launch_field_with_its_default() -> None:
    table = rows(CONTRACT, "| field | default |")
    assert set(table) == set(FIELDS)
    said = {name: cells[1].strip("`") for name, cells in table.items()}
    for field in fields(LaunchSpec):
        if isinstance(field.default, int | float) and field.name not in ("backoff_s", "backoff_max_s"):
            text = str(field.default).lower() if isinstance(field.default, bool) else f"{field.default:g}"
            assert said[field.name] == text, field.name
        elif field.default is not MISSING and field.name in ("stop_signal", "restart", "report", "protocol"):
            assert said[field.name] == field.default


def test_the_contract_has_every_field_of_a_record() -> None:
    assert set(rows(CONTRACT, "| field | example |")) == set(RECORD_FIELDS)


def test_the_operators_page_has_every_command_verdict_result_and_exit_code() -> None:
    commands = " ".join(rows(OPERATIONS, "| command | what it does |"))
    assert [verb for verb in grammar.VERBS if verb not in commands] == []
    assert set(rows(OPERATIONS, "| verdict | meaning |")) == set(verdict.VERDICTS)
    assert set(rows(OPERATIONS, "| result | meaning |")) == set(RESULTS)
    codes = {int(code) for code in re.findall(r"^\| (\d) \|", OPERATIONS, re.M)}
    assert codes == {0, 3} | set(EXIT_CODES.values())


def test_the_operators_page_has_every_verdict_of_gm_with_its_exit_code() -> None:
    table = rows(OPERATIONS, "| verdict of `gm` |")
    assert set(table) == set(gm.VERDICTS)
    assert {word: int(cells[1]) for word, cells in table.items()} == {
        verdict: gm.exit_code([gm.Answer("t", verdict)]) for verdict in gm.VERDICTS
    }


def test_the_security_page_has_every_verb_that_can_be_granted() -> None:
    said = re.search(
        r"Verbs in this version: `([^`]+)`; `([^`]+)`", (ROOT / "docs" / "security.md").read_text()
    )
    assert said
    assert set(said[1].split()) | set(said[2].split()) == set(GRANTED)


def test_the_two_readmes_go_in_step() -> None:
    """The same sections, the same commands, the same links; only the words differ."""
    shapes = [
        (
            re.findall(r"^#+", text, re.M),
            [_command(line) for line in text.splitlines() if line.startswith("    ")],
            sorted(set(re.findall(r"\]\(([^)]+)\)", text)) - {"README.md", "README.zh-CN.md"}),
            [line.count("|") for line in text.splitlines() if line.startswith("|")],
        )
        for text in (ENGLISH, CHINESE)
    ]
    assert shapes[0] == shapes[1]


def _command(line: str) -> str:
    """Without its comment; a line of the picture only by its being there."""
    return "" if re.search("[─│▼·]", line) else re.split(r"\s{3,}|\s+#", line.strip())[0]


def test_the_map_names_every_module_of_the_agent_and_the_daemon() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    modules = [path.stem for folder in ("agent", "roles/daemon") for path in (ROOT / folder).glob("[!_]*.py")]
    assert [module for module in modules if not re.search(rf"\b{module}\b", page)] == []
