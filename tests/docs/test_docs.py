"""The pages of the project: what they show is what happens."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import tomllib

import pytest
import yaml
from doc_blocks import (
    DOCS,
    PAGES,
    ROOT,
    SENDING,
    check_lines,
    clean_environment,
    headings,
    lay_out,
    messages_of,
    projects,
    read_blocks,
    run_command,
    write_file,
)

PROJECTS = projects(tuple(page for page in PAGES if page.parent == DOCS))
BLOCKS = [block for page in PAGES for block in read_blocks(page)]

# Built here from halves, so that this file does not hold what it looks for.
FORBIDDEN = re.compile(
    "|".join(
        (
            r"(?<![\w.<{])/(?:work|home|Users)/\w",
            r"/tm" + r"p/[a-z]",
            r"art" + r"ifactory",
            r"(?:pypi|npm|registry|proxy|nexus)[\w.-]*\.(?:corp|internal|local|lan)\b",
            r"--index" + r"-url|--extra-index" + r"-url|_auth" + r"Token",
        )
    )
)


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch):
    clean_environment(monkeypatch)


@pytest.mark.parametrize("name", PROJECTS)
def test_an_example_prints_what_its_page_shows(name, pytester, python, monkeypatch):
    blocks = PROJECTS[name]
    for variable, value in SENDING.get(name, {}).items():
        monkeypatch.setenv(variable, value)
    lay_out(name, blocks, pytester.path)
    commands = [block for block in blocks if block.command]
    for block in commands:
        assert block.output, f"{block.where} shows no output"
        check_lines(block.output, run_command(block, pytester, python), block.where)


def test_a_line_that_was_not_printed_is_noticed():
    with pytest.raises(AssertionError, match="was not printed"):
        check_lines(["cost $0.1"], ["cost $0.2"], "here")
    with pytest.raises(AssertionError, match="was not printed"):
        check_lines(["second", "first"], ["first", "second"], "here")
    check_lines(["first", "...", "a ... z"], ["first", "and", "a b c z"], "here")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.where)
def test_a_block_can_be_read(block):
    if block.language == "python":
        compile(block.text, block.where, "exec")
    elif block.language == "ini":
        parser = configparser.ConfigParser()
        parser.read_string(block.text)
        assert parser.sections()
    elif block.language == "toml":
        assert tomllib.loads(block.text)
    elif block.language == "yaml":
        assert yaml.safe_load(block.text)
    elif block.language == "json":
        assert json.loads(block.text)
    elif block.language == "diff":
        lines = block.text.splitlines()
        assert all(line[:1] in ("+", "-", " ", "") for line in lines)
        assert {line[:1] for line in lines} >= {"+", "-"}
    else:
        assert block.language == "", f"{block.where}: no test reads {block.language!r}"


def test_each_job_of_gitlab_is_in_the_pipeline_of_those_that_need_it():
    """One that has rules, and needs one that has none, is refused in a merge request: there nothing else runs."""
    (recipe,) = [yaml.safe_load(block.text) for block in BLOCKS if block.text.startswith("# .gitlab-ci.yml")]
    needed = {(name, other) for name, job in recipe.items() for other in job.get("needs", ())}
    assert needed == {("token-budget", "tests")}
    for name, other in needed:
        assert recipe[name].get("rules") == recipe[other].get("rules")
    assert {"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'} in recipe["workflow"]["rules"]


def test_every_file_of_an_example_names_its_path(tmp_path):
    for name, blocks in PROJECTS.items():
        for block in blocks:
            if block.command is None:
                write_file(block, tmp_path / name)


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "examples" / "README.md"], ids=lambda page: page.name
)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'\bsrc(?:set)?="([^"]+)"', text)
    for link in links:
        if re.match(r"[a-z]+:", link):
            assert link.startswith("https://"), link
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            assert anchor in headings(target), f"{page.name} links to {link}; there are {sorted(headings(target))}"


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_the_readme_leads_to_every_page(page):
    assert f"(docs/{page.name})" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_message_that_troubleshooting_quotes_exists():
    source = messages_of(ROOT / "pytest_tokenbudget")
    quoted = re.findall(r"^\| `([^`]+)` \|", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(quoted) > 20
    for message in quoted:
        for piece in message.split("..."):
            assert piece.strip(" .?") in source, f"no message says {piece!r} (of {message!r})"


def test_no_tracked_file_names_a_machine():
    if not (ROOT / ".git").exists():
        pytest.skip("only a clone knows its files")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=60)
    for name in filter(None, listed.stdout.decode().split("\0")):
        path = ROOT / name
        if not path.is_file() or path.suffix in (".z", ".png"):
            continue
        found = FORBIDDEN.search(path.read_text(encoding="utf-8", errors="replace"))
        assert found is None, f"{name} names {found[0]!r}"
