"""What a replayed test leaves behind stays closed, is told of whenever it tries, and no other test is blamed for it."""

from __future__ import annotations

import sys

import pytest
from test_network import HELPERS, read

plain = pytest.mark.parametrize("spread", [()], ids=["plain"])
one_worker = pytest.mark.parametrize("spread", [(), ("-n", "2", "--dist=loadfile")], ids=["plain", "xdist"])
"""So that all tests of a file run in one process, where one finds what another has left behind."""

LATER = (
    HELPERS
    + '''
import atexit, functools, time

GO = threading.Event()
LEFT = {}

def swallow(port):
    try:
        reach(("192.0.2.1", port))
    except BaseException as error:
        LEFT[port] = type(error).__name__

def later(work):
    """What waits until its test has ended, and then works."""
    assert GO.wait(20)
    work()
'''
)

LEAVING = """
def test_raises(usage):
    LEFT["raises"] = threading.Thread(target=later, args=(reach,), name="telemetry")
    LEFT["raises"].start()

def test_swallows(usage):
    LEFT["swallows"] = threading.Thread(target=later, args=(lambda: swallow(1),), daemon=True)
    LEFT["swallows"].start()

def test_timer(usage):
    LEFT["timer"] = threading.Timer(0, later, args=(lambda: swallow(2),))
    LEFT["timer"].start()

def test_child(usage):
    def start():
        child = threading.Thread(target=swallow, args=(3,))
        child.start()
        child.join()
    LEFT["child"] = threading.Thread(target=later, args=(start,))
    LEFT["child"].start()

def test_job(usage):
    LEFT["job"] = EARLY_POOL.submit(later, lambda: swallow(4))

def test_thread_pool(usage):
    LEFT["pool"] = ThreadPool(1)
    LEFT["pool job"] = LEFT["pool"].apply_async(later, (lambda: swallow(5),))

def test_low_thread(usage):
    _thread.start_new_thread(later, (lambda: swallow(6),))

def test_task_of_a_loop(usage):
    async def task():
        while not GO.is_set():
            await asyncio.sleep(0.01)
        swallow(7)
    LEFT["task"] = asyncio.run_coroutine_threadsafe(task(), EARLY_LOOP)

def test_callback_of_a_loop(usage):
    EARLY_LOOP.call_soon_threadsafe(EARLY_LOOP.call_later, 0, later, lambda: swallow(8))

def test_loop(usage):
    async def task():
        await asyncio.to_thread(later, lambda: swallow(9))
    LEFT["loop"] = threading.Thread(target=asyncio.run, args=(task(),))
    LEFT["loop"].start()

@pytest.fixture(scope="class")
def shared():
    LEFT["fixture"] = threading.Thread(target=later, args=(lambda: swallow(10),))
    LEFT["fixture"].start()

class TestClass:
    def test_fixture(self, usage, shared): pass
"""

WAITING = """
def wait():
    GO.set()
    for name in ("raises", "swallows", "timer", "child", "loop", "fixture"):
        LEFT[name].join()
    for name in ("job", "task"):
        LEFT[name].result()
    LEFT["pool job"].get()
    LEFT["pool"].close()
    while not {*range(1, 11)} <= LEFT.keys():
        time.sleep(0.01)
    assert {LEFT[port] for port in range(1, 11)} == {"ReplayMiss"}
"""

LEAVERS = {
    "test_raises": "192.0.2.1:80",
    "test_swallows": "192.0.2.1:1",
    "test_timer": "192.0.2.1:2",
    "test_child": "192.0.2.1:3",
    "test_job": "192.0.2.1:4",
    "test_thread_pool": "192.0.2.1:5",
    "test_low_thread": "192.0.2.1:6",
    "test_task_of_a_loop": "192.0.2.1:7",
    "test_callback_of_a_loop": "192.0.2.1:8",
    "test_loop": "192.0.2.1:9",
    "TestClass::test_fixture": "192.0.2.1:10",
}


@one_worker
@pytest.mark.parametrize("marks", ["", "@pytest.mark.token_budget(max_tokens=0, min_requests=0)"])
def test_who_left_it_is_told_of_and_who_runs_now_is_not(pytester, run_alone, marks):
    pytester.makepyfile(test_it=LATER + LEAVING + WAITING + f"\n{marks}\ndef test_innocent():\n    wait()\n")
    result = run_alone("--token-report=json", "-Werror")
    result.assert_outcomes(passed=len(LEAVERS) + 1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    document = read(pytester)
    blocked = {note["nodeid"].partition("::")[2]: note["message"] for note in document["blocked"]}
    assert blocked.keys() == LEAVERS.keys()
    assert len(document["blocked"]) == len(LEAVERS)
    for name, target in LEAVERS.items():
        assert f"tried to reach {target} after it" in blocked[name]
        assert f"test_it.py::{name} left " in blocked[name]
        assert blocked[name] in result.stdout.str()
    assert "the thread telemetry" in blocked["test_raises"]
    assert blocked["TestClass::test_fixture"].startswith("the fixture shared of ")
    assert {test["outcome"] for test in document["tests"]} == {"passed"}
    assert document["complete"] is True


@pytest.mark.parametrize("report", [(), ("--token-report",)], ids=["quiet", "reported"])
def test_an_attempt_after_the_last_test_fails_the_run(pytester, run_alone, report):
    pytester.makeconftest("""
import sys

def pytest_sessionfinish():
    if "test_it" in sys.modules:  # not in xdist's controller
        sys.modules["test_it"].GO.set()
""")
    pytester.makepyfile(
        test_it=LATER
        + """
def test_last(usage):
    threading.Thread(target=later, args=(lambda: swallow(1),)).start()
"""
    )
    result = run_alone(*report)
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*= token budget =*", "*test_it.py::test_last*"])
    assert "192.0.2.1:1" in result.stdout.str()


AT_EXIT = {
    "function": "atexit.register(swallow, 1)",
    "imported before": "registered_early(swallow, 1)",
    "daemon": "threading.Thread(target=in_daemon, daemon=True).start()",
    "thread": "threading.Thread(target=lambda: (threading.main_thread().join(), swallow(1))).start()",
}


@pytest.mark.parametrize("way", AT_EXIT)
def test_an_attempt_while_the_process_exits_fails_the_run(pytester, run_alone, monkeypatch, way):
    page = pytester.path / "page.md"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(page))
    pytester.makepyfile(
        test_it=LATER
        + f"""
from atexit import register as registered_early

def others():
    # Registered before the tests, and none of their affair.
    try:
        reach(("192.0.2.1", 2))
    except OSError:
        open("others", "w").close()

def wait():
    end = time.monotonic() + 20
    while 1 not in LEFT and time.monotonic() < end:
        time.sleep(0.01)

atexit.register(others)
atexit.register(wait)
EXITING = threading.Event()

def in_daemon():
    EXITING.wait()
    swallow(1)

def test_leaves(usage):
    atexit.register(EXITING.set)
    {AT_EXIT[way]}

def test_innocent(usage): pass
"""
    )
    result = run_alone("--token-report=json", "--token-report=markdown")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    (note,) = read(pytester)["blocked"]
    assert note["nodeid"] == "test_it.py::test_leaves"
    assert "tried to reach 192.0.2.1:1 after it had ended" in note["message"]
    assert note["message"] in result.stdout.str() + result.stderr.str()
    markdown = (pytester.path / "token-report.md").read_text("utf-8")
    assert "192.0.2.1:1" in markdown
    # The job's page is only added to: what it said before was not all.
    assert page.read_text("utf-8").endswith(markdown)
    assert (pytester.path / "others").exists()


@one_worker
def test_who_uses_what_a_replayed_test_made_is_not_taken_for_it(pytester, run_alone):
    pytester.makepyfile(
        test_it=LATER
        + """
def of(error):
    return type(error).__name__

async def reach_async():
    await asyncio.open_connection(*FAR)

def test_makes(usage):
    LEFT["pool"] = ThreadPoolExecutor(1)
    LEFT["thread pool"] = ThreadPool(1)
    LEFT["loop"] = asyncio.new_event_loop()
    threading.Thread(target=LEFT["loop"].run_forever, daemon=True).start()
    assert LEFT["pool"].submit(int).result() == LEFT["thread pool"].apply(int) == 0
    assert LEFT["thread pool"].apply_async(func=int, args=("7",)).get() == 7
    assert LEFT["thread pool"].map(abs, [-1, 2]) == [*LEFT["thread pool"].imap(abs, [1, -2])] == [1, 2]

WAYS = {
    "pool": lambda: LEFT["pool"].submit(reach).result(),
    "thread pool": lambda: LEFT["thread pool"].apply(reach),
    "loop": lambda: asyncio.run_coroutine_threadsafe(reach_async(), LEFT["loop"]).result(),
    "executor": lambda: asyncio.run(in_executor()),
}

# There is no network: an OSError says that the attempt was let through.
@pytest.mark.parametrize("way", WAYS)
def test_not_replayed(way):
    with pytest.raises(OSError):
        WAYS[way]()

@pytest.mark.parametrize("way", WAYS)
@pytest.mark.token_cassette(record="new_episodes")
def test_recorded(way):
    with pytest.raises(OSError):
        WAYS[way]()

@pytest.mark.parametrize("way", WAYS)
def test_replayed(usage, way):
    with contextlib.suppress(BaseException):
        WAYS[way]()

def test_at_the_end():
    LEFT["loop"].call_soon_threadsafe(LEFT["loop"].stop)
    LEFT["thread pool"].close()
"""
    )
    result = run_alone("--token-report=json")
    result.assert_outcomes(passed=10, failed=4)
    document = read(pytester)
    assert {note["nodeid"] for note in document["blocked"]} == {
        f"test_it.py::test_replayed[{way}]" for way in ("pool", "thread pool", "loop", "executor")
    }
    assert "left" not in " ".join(note["message"] for note in document["blocked"])


@one_worker
def test_tests_that_share_a_loop(pytester, run_alone):
    pytester.makepyfile(
        test_asyncio=LATER
        + """
pytestmark = pytest.mark.asyncio(loop_scope="module")
import pytest_asyncio

@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared():
    await asyncio.sleep(0)
    yield

async def late():
    while not GO.is_set():
        await asyncio.sleep(0.01)
    swallow(1)

async def test_leaves(usage, shared):
    LEFT["task"] = asyncio.create_task(late())

async def test_innocent(usage, shared):
    GO.set()
    await LEFT["task"]

async def test_not_replayed(shared):
    with pytest.raises(OSError):
        await asyncio.open_connection(*FAR)

async def test_blocked(usage, shared):
    with contextlib.suppress(BaseException):
        await asyncio.open_connection(*FAR)
""",
        test_anyio=LATER
        + """
pytestmark = pytest.mark.anyio

@pytest.fixture(scope="module")
def anyio_backend(): return "asyncio"

@pytest.fixture(scope="module")
async def shared(anyio_backend):
    yield 1

async def test_first(usage, shared): pass

async def test_not_replayed(shared):
    with pytest.raises(OSError):
        await asyncio.open_connection(*FAR)

async def test_blocked(usage, shared):
    with contextlib.suppress(BaseException):
        await asyncio.open_connection(*FAR)
""",
    )
    result = run_alone("--token-report=json", plugins=("asyncio", "anyio"))
    result.assert_outcomes(passed=5, failed=2)
    blocked = {note["nodeid"]: note["message"] for note in read(pytester)["blocked"]}
    assert blocked.keys() == {
        "test_asyncio.py::test_leaves",
        "test_asyncio.py::test_blocked",
        "test_anyio.py::test_blocked",
    }
    assert "left something behind" in blocked["test_asyncio.py::test_leaves"]


RECORDING = """
interactions:
- request:
    method: POST
    uri: http://model.example.invalid/v1/chat/completions
    body: '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}'
    headers: {}
  response:
    status: {code: 200, message: OK}
    headers: {content-type: [application/json]}
    body:
      string: '{"id": "1", "object": "chat.completion", "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello!"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}}'
version: 1
"""


@one_worker
@pytest.mark.parametrize("client", ["httpx", "requests"])
def test_a_late_request_takes_no_recording_of_another_test(pytester, run_alone, client):
    folder = pytester.path / "cassettes" / "test_it"
    folder.mkdir(parents=True)
    (folder / "test_asks.yaml").write_text(RECORDING, "utf-8")
    pytester.makepyfile(
        test_it=LATER
        + f"""
import {client}

def ask():
    body = {{"model": "gpt-4o-mini", "messages": [{{"role": "user", "content": "hello"}}]}}
    return {client}.post("http://model.example.invalid/v1/chat/completions", json=body).json()["usage"]

def quietly():
    with contextlib.suppress(BaseException):
        LEFT["answer"] = ask()

def test_leaves(usage):
    LEFT["thread"] = threading.Thread(target=later, args=(quietly,))
    LEFT["thread"].start()

@pytest.mark.token_budget(max_tokens=11)
def test_asks():
    import vcr.stubs, urllib.request
    with contextlib.suppress(OSError):
        urllib.request.urlopen("http://127.0.0.1:9/")  # from now on vcrpy's stubs are there for all
    GO.set()
    LEFT["thread"].join()
    assert "answer" not in LEFT
    assert ask()["total_tokens"] == 11
"""
    )
    result = run_alone("--token-report=json")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    document = read(pytester)
    (note,) = document["blocked"]
    assert note["nodeid"] == "test_it.py::test_leaves"
    assert "tried to reach model.example.invalid:80 after it had ended" in note["message"]
    (asked,) = [test for test in document["tests"] if test["calls"]]
    assert (asked["nodeid"], asked["verdict"], asked["usage"]["requests"]) == ("test_it.py::test_asks", "within", 1)
    assert document["drift"] == []


@one_worker
def test_the_end_of_a_recorded_test_closes_nothing(pytester, run_alone):
    pytester.makepyfile(
        test_it=LATER
        + """
@pytest.mark.token_cassette(record="new_episodes")
def test_records():
    LEFT["thread"] = threading.Thread(target=later, args=(lambda: swallow(1),))
    LEFT["thread"].start()

def test_replayed(usage):
    GO.set()
    LEFT["thread"].join()
    assert LEFT[1] == "OSError"
"""
    )
    result = run_alone("--token-report=json")
    result.assert_outcomes(passed=2)
    assert result.ret == pytest.ExitCode.OK
    assert read(pytester)["blocked"] == []


@one_worker
def test_combine_fails_for_it_too(pytester, run_alone):
    pytester.makepyfile(
        test_it=LATER
        + """
def test_leaves(usage):
    threading.Thread(target=later, args=(lambda: swallow(1),)).start()

def test_after():
    GO.set()
""",
        test_expected=LATER
        + """
@pytest.mark.xfail
def test_leaves(usage):
    threading.Thread(target=later, args=(lambda: swallow(1),)).start()
    assert False

def test_after():
    GO.set()
""",
    )
    assert run_alone("test_it.py", "--token-report=json:bad.json").ret == pytest.ExitCode.TESTS_FAILED
    # As its failed assertion, so is this expected of it.
    assert run_alone("test_expected.py", "--token-report=json:good.json").ret == pytest.ExitCode.OK
    combine = (sys.executable, "-m", "pytest_tokenbudget", "combine")
    combined = pytester.run(*combine, "bad.json", "good.json")
    assert combined.ret == 1
    assert "1 test is to blame for an attempt to reach the network after its end" in combined.stderr.str()
    assert pytester.run(*combine, "good.json").ret == 0


@plain
def test_a_run_in_the_process_of_another_reports_its_own(pytester, run_alone):
    pytester.makeconftest('pytest_plugins = ["pytester"]')
    pytester.makepyfile(
        test_it=LATER
        + """
def test_outer(pytester, usage):
    pytester.makepyfile('''
        import threading, socket
        GO = threading.Event()
        def swallow():
            GO.wait(10)
            try:
                socket.create_connection(("192.0.2.1", 1), timeout=1)
            except BaseException:
                pass
        def test_inner(usage):
            threading.Thread(target=swallow).start()
        def test_after():
            GO.set()
        ''')
    result = pytester.inline_run("-p", "no:cacheprovider", "-p", "no:pytester")
    assert result.ret == 1
"""
    )
    result = run_alone("--token-report=json")
    result.assert_outcomes(passed=1)
    assert result.ret == pytest.ExitCode.OK
    assert read(pytester)["blocked"] == []
