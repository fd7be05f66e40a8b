"""What is measured: one function for each quantity, which gives its rows of the table."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import measure
import suites
from environments import HERE, PLUGINS, Environments, variables
from table import Row, skipped

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

PROBES = HERE / "probes"
QUIET = ["-q", "-p", "no:cacheprovider"]
MILLION = 1_000_000
MICRO = 1_000_000

START = "start-up without a test, above the same environment with the plugin off: million instructions"
START_ALONE = "the same, above an environment that has pytest and nothing else"
LANGSMITH = "pytest without a test where LangChain is installed: seconds of CPU with `-p no:langsmith_plugin`"
IDLE = "a test that calls no model, above bare pytest: thousand instructions"
REPLAY = "a test that replays one completion, above a mock transport: million instructions"
CASSETTE = "one request matched on its body, cassette of {}: milliseconds of CPU"
FLAT = "the same, cassette of {} against one of {}: ratio"
CLIENTS = "300 tests with `openai.OpenAI()` in each, whole run: seconds of CPU"
INVOKE = "a tracked LangChain `invoke`, above an untracked one: microseconds of CPU"
AINVOKE = "a tracked `ainvoke` against an untracked one: ratio"
BLOCKS = "a tracked `invoke` after 10,000 tracked blocks against one before: ratio"
WRITE = "the JSON report of {:,} tests, written: seconds of CPU"
COMPARE = "{:,} tests held against the baseline: seconds of CPU"
COMBINE = "`tokenbudget combine` of 10 reports of {:,} tests each: seconds of CPU"
PEAK = "the same: MiB at most"
SPREAD = "a run of {:,} tests without a model under `-n 2`, against one with the plugin off: ratio"
BATCH = "answers of `ChatOpenAI.batch` of 20 prompts that belong to another prompt, of 300"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What every quantity needs to know.

    Attributes:
        environments: where to run.
        folder: for what is written.
        rounds: how often the clock is read.
        quick: whether only the way is to be tried, with sizes that tell nothing.
    """

    environments: Environments
    folder: Path
    rounds: int
    quick: bool

    def pytest(self, name: str, *arguments: str) -> tuple[str, list[str]]:
        """An environment's interpreter, and the arguments of pytest with its one plugin."""
        return self.environments.python(name), [*QUIET, *PLUGINS[name], *arguments]

    def probe(self, name: str, *arguments: object) -> float:
        """The number that a probe prints."""
        command = [self.environments.python("ours"), str(PROBES / name), *map(str, arguments)]
        ran = subprocess.run(command, env=variables(), capture_output=True, text=True, check=False)
        if ran.returncode:
            raise SystemExit(f"{' '.join(command)}\n{ran.stdout}{ran.stderr}")
        return float(ran.stdout)


def start(bench: Bench) -> list[Row]:
    """`pytest --collect-only` on an empty file.

    pytest looks through all installed packages for plugins, so that each package costs something, also those of
    LangChain. Off and on in the same environment tell what the plugin itself takes.
    """
    if not measure.has_valgrind():
        return [skipped(START), skipped(START_ALONE)]
    folder = suites.write_empty(bench.folder / "empty")
    off = ["-m", "pytest", *QUIET, "--collect-only", "-p", "no:langsmith_plugin", "-p", "no:anyio"]
    counts = {}
    for name, plugin in (("bare", ""), ("ours", "pytest_tokenbudget"), ("recording", "recording")):
        python = bench.environments.python(name)
        without = [*off, "-p", f"no:{plugin}"] if plugin else off
        for key, arguments in ((name, off), (f"{name} off", without)):
            measure.cpu_seconds(python, arguments, folder, autoload=True)  # the bytecode is there now
            counts[key] = partial(measure.count_instructions, python, arguments, folder, autoload=True)
    del counts["bare off"]
    found = {key: count / MILLION for key, count in measure.together(counts).items()}
    ours, theirs = (found[name] - found[f"{name} off"] for name in ("ours", "recording"))
    alone, theirs_alone = (found[name] - found["bare"] for name in ("ours", "recording"))
    shown = f"pytest-recording {theirs:.1f}; plugin off {found['ours off']:.0f} in all"
    also = f"pytest-recording {theirs_alone:.1f}; bare pytest {found['bare']:.0f} in all"
    return [
        Row(quantity=START, ours=f"{ours:.1f}", theirs=shown, target="at most 10", met=ours <= 10),
        Row(quantity=START_ALONE, ours=f"{alone:.1f}", theirs=also),
    ]


def langsmith(bench: Bench) -> list[Row]:
    """What LangSmith's pytest plugin, which comes with LangChain, takes at start-up; no plugin of ours."""
    folder = suites.write_empty(bench.folder / "langsmith")
    python = bench.environments.python("ours")
    others = ["-m", "pytest", *QUIET, "--collect-only", "-p", "no:pytest_tokenbudget"]
    run = partial(measure.cpu_seconds, python, folder=folder, autoload=True)
    without = [*others, "-p", "no:langsmith_plugin"]
    run(others)  # the bytecode is there now
    found = measure.interleave(bench.rounds, {"with": partial(run, others), "without": partial(run, without)})
    times = measure.ratio(found["with"], found["without"])
    shown = f"as installed {median(found['with']):.2f} ({times:.1f} times more)"
    return [Row(quantity=LANGSMITH, ours=f"{median(found['without']):.2f}", theirs=shown, by="clock")]


def idle(bench: Bench) -> list[Row]:
    """Tests without a model; bare pytest is the same environment with the plugin off."""
    tests = 20 if bench.quick else 200
    folder = suites.write_idle(bench.folder / "idle", measure.tests_needed(tests))
    runs = {name: bench.pytest(name) for name in ("ours", "recording")}
    runs["bare"] = (runs["ours"][0], QUIET)
    if not measure.has_valgrind():
        return [skipped(IDLE)]
    counts = {name: partial(measure.count_per_test, *run, folder, tests) for name, run in runs.items()}
    found = measure.together(counts)
    ours, theirs = ((found[name] - found["bare"]) / 1000 for name in ("ours", "recording"))
    shown = f"pytest-recording {theirs:.0f}; bare pytest {found['bare'] / 1000:.0f} in all"
    target = {"target": "at most 85 (25 microseconds)", "met": ours <= 85}
    return [Row(quantity=IDLE, ours=f"{ours:.0f}", theirs=shown, **target)]


def replay(bench: Bench) -> list[Row]:
    """One chat completion through LangChain, from a cassette of each test's own."""
    if not measure.has_valgrind():
        return [skipped(REPLAY)]
    tests = 2 if bench.quick else 40
    counts = {}
    for kind in ("floor", "ours", "recording"):
        folder = suites.write_replays(bench.folder / f"replay-{kind}", measure.tests_needed(tests), kind)
        python, arguments = bench.pytest("ours" if kind == "floor" else kind)
        arguments = QUIET if kind == "floor" else arguments
        measure.cpu_seconds(python, ["-m", "pytest", *arguments], folder)
        counts[kind] = partial(measure.count_per_test, python, arguments, folder, tests)
    found = measure.together(counts)
    ours, theirs = ((found[kind] - found["floor"]) / MILLION for kind in ("ours", "recording"))
    shown = f"pytest-recording {theirs:.2f}; the floor {found['floor'] / MILLION:.2f} in all"
    times = f"{ours:.2f} ({theirs / ours:.1f} times less)"
    return [Row(quantity=REPLAY, ours=times, theirs=shown, target="5 times less", met=ours <= theirs / 5)]


def cassettes(bench: Bench) -> list[Row]:
    """One request in cassettes of growing size; their loading is left out."""
    sizes = (2, 4, 6, 8) if bench.quick else (10, 300, 1000, 5000)
    measures = {}
    for size in sizes:
        path = bench.folder / "large" / f"{size}.yaml"
        suites.write_cassette(path, range(size))
        requests = min(40, size - 1)
        measures["ours", size] = partial(bench.probe, "large_cassettes.py", "ours", path, size, requests)
        if size != sizes[-1]:
            few = min(8, size - 1)
            measures["vcrpy", size] = partial(bench.probe, "large_cassettes.py", "vcrpy", path, size, few)
    found = measure.interleave(bench.rounds, measures)
    rows = []
    for size, least in zip(sizes, (None, 20, 100, None), strict=True):
        ours = median(found["ours", size])
        shown = {"quantity": CASSETTE.format(size), "ours": f"{ours * 1000:.2f}", "by": "clock"}
        if size != sizes[-1]:
            theirs = median(found["vcrpy", size])
            shown["theirs"] = f"vcrpy {theirs * 1000:.2f}"
            if least:
                shown["ours"] += f" ({theirs / ours:.0f} times less)"
                shown |= {"target": f"{least} times less", "met": theirs / ours >= least}
        rows.append(Row(**shown))
    growth = measure.ratio(found["ours", sizes[-1]], found["ours", sizes[0]])
    flat = {
        "quantity": FLAT.format(sizes[-1], sizes[0]),
        "target": "at most 1.5",
        "met": growth <= 1.5,
        "by": "clock",
    }
    return [*rows, Row(ours=f"{growth:.2f}", **flat)]


def clients(bench: Bench) -> list[Row]:
    """A suite whose tests each make a client, start-up included."""
    tests = 3 if bench.quick else 300
    measures = {}
    for kind in ("ours", "recording"):
        folder = suites.write_clients(bench.folder / f"clients-{kind}", tests, kind)
        python, arguments = bench.pytest(kind)
        measures[kind] = partial(measure.cpu_seconds, python, ["-m", "pytest", *arguments], folder)
    found = measure.interleave(bench.rounds, measures)
    times = measure.ratio(found["recording"], found["ours"])
    ours = f"{median(found['ours']):.1f} ({times:.1f} times less)"
    shown = f"pytest-recording {median(found['recording']):.1f}"
    return [Row(quantity=CLIENTS, ours=ours, theirs=shown, target="5 times less", met=times >= 5, by="clock")]


def langchain(bench: Bench) -> list[Row]:
    """A fake chat model: untracked, in ``track_usage()``, in LangChain's ``get_usage_metadata_callback()``."""
    calls, blocks, rounds = (2, 3, 2) if bench.quick else (100, 10_000, 12 * bench.rounds)
    with ExitStack() as stack:
        callers = {who: stack.enter_context(_Caller(bench, who)) for who in ("none", "ours", "theirs")}

        def orders(order: str) -> dict[str, list[float]]:
            return measure.interleave(
                rounds, {who: partial(each.order, order, calls) for who, each in callers.items()}
            )

        orders("invoke")  # all is imported now
        sync, asynchronous = orders("invoke"), orders("ainvoke")
        for caller in callers.values():
            caller.order("blocks", blocks)
        later = orders("invoke")
    added = {who: measure.paired(sync[who], sync["none"]) * MICRO for who in ("ours", "theirs")}
    ratios = {who: measure.ratio(asynchronous[who], asynchronous["none"]) for who in ("ours", "theirs")}
    # Against the untracked calls of the same rounds, so that a machine that got busier is not blamed on the blocks.
    pace = measure.ratio(later["none"], sync["none"])
    growth = {who: median(later[who]) / median(sync[who]) / pace for who in ("ours", "theirs")}
    theirs = "LangChain's own handler"
    untracked = f"untracked {median(asynchronous['none']) * MICRO:.0f} microseconds"
    return [
        Row(
            quantity=INVOKE,
            ours=f"{added['ours']:.0f}",
            theirs=f"{theirs} {added['theirs']:.0f}; untracked {median(sync['none']) * MICRO:.0f} in all",
            target="at most 60",
            met=added["ours"] <= 60,
            by="clock",
        ),
        Row(
            quantity=AINVOKE,
            ours=f"{ratios['ours']:.2f}",
            theirs=f"{theirs} {ratios['theirs']:.2f}; {untracked}",
            target="at most 1.15",
            met=ratios["ours"] <= 1.15,
            by="clock",
        ),
        Row(quantity=BLOCKS, ours=f"{growth['ours']:.2f}", theirs=f"{theirs} {growth['theirs']:.2f}", by="clock"),
    ]


def batch(bench: Bench) -> list[Row]:
    """Twenty prompts at once, answered from one cassette."""
    prompts, trials = (3, 2) if bench.quick else (20, 15)
    path = bench.folder / "batch" / "batch.yaml"
    suites.write_cassette(path, range(prompts))
    ours, theirs = (int(bench.probe("batch.py", who, path, prompts, trials)) for who in ("ours", "vcrpy"))
    shown = f"pytest-recording's default matching {theirs}"
    return [Row(quantity=BATCH, ours=str(ours), theirs=shown, target="0", met=ours == 0, by="count")]


def scale(bench: Bench) -> list[Row]:
    """Reports of many tests, each with one call and an entry in the baseline."""
    tests = 50 if bench.quick else 100_000
    shards = 10
    folder = bench.folder / "scale"
    folder.mkdir()
    bench.probe("scale.py", "shards", folder, shards, tests // shards)
    paths = [f"shard-{shard}.json" for shard in range(shards)]
    command = ["-m", "pytest_tokenbudget", "combine", *paths, "-o", "all.json", "--baseline", "token-baseline.json"]
    python = bench.environments.python("ours")
    found = measure.interleave(
        bench.rounds,
        {
            "write": partial(bench.probe, "scale.py", "write", tests),
            "compare": partial(bench.probe, "scale.py", "compare", tests),
            "combine": partial(measure.cpu_seconds_and_peak, python, command, folder),
        },
    )
    written, compared = median(found["write"]), median(found["compare"])
    combined, peak = (median(column) for column in zip(*found["combine"], strict=True))
    clock = {"by": "clock"}
    return [
        Row(
            quantity=WRITE.format(tests), ours=f"{written:.2f}", target="at most 1.5", met=written <= 1.5, **clock
        ),
        Row(
            quantity=COMPARE.format(tests), ours=f"{compared:.2f}", target="at most 0.3", met=compared <= 0.3, **clock
        ),
        Row(
            quantity=COMBINE.format(tests // shards), ours=f"{combined:.1f}", target="at most 5", met=combined <= 5,
            **clock,
        ),
        Row(quantity=PEAK, ours=f"{peak:.0f}", target="at most 150", met=peak <= 150, by="the kernel's count"),
    ]  # fmt: skip


def spread(bench: Bench) -> list[Row]:
    """Tests without a model, over two workers of xdist: instructions of all three processes.

    The clock can't tell 3% here: the same run takes 10% more or less than itself.
    """
    tests = 20 if bench.quick else 2_000
    quantity = SPREAD.format(tests)
    if not measure.has_valgrind():
        return [skipped(quantity)]
    folder = suites.write_idle(bench.folder / "spread", tests)
    python, arguments = bench.pytest("spread")
    counts = {}
    for name, each in (("on", arguments), ("off", [*QUIET, "-p", "xdist"])):
        command = ["-m", "pytest", *each, "-n", "2"]
        measure.cpu_seconds(python, command, folder)  # the bytecode is there now
        counts[name] = partial(measure.count_instructions_of_all, python, command, folder)
    found = measure.together(counts)
    slower = found["on"] / found["off"]
    shown = f"plugin off {found['off'] / MILLION:.0f} million instructions"
    return [Row(quantity=quantity, ours=f"{slower:.3f}", theirs=shown, target="at most 1.03", met=slower <= 1.03)]


class _Caller:
    """A process that calls LangChain by order."""

    def __init__(self, bench: Bench, who: str) -> None:
        command = [bench.environments.python("ours"), str(PROBES / "langchain_calls.py"), who]
        self._process = subprocess.Popen(
            command, env=variables(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def order(self, order: str, count: int) -> float:
        self._process.stdin.write(f"{order} {count}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{self._process.args} failed")
        return float(answer)


QUANTITIES = {
    each.__name__: each
    for each in (start, langsmith, idle, replay, cassettes, clients, langchain, batch, scale, spread)
}
ORDER = (
    *(START, START_ALONE, LANGSMITH, IDLE, REPLAY),
    *(CASSETTE.format(size) for size in (10, 300, 1000, 5000)),
    *(FLAT.format(5000, 10), CLIENTS, INVOKE, AINVOKE, BLOCKS, BATCH),
    *(WRITE.format(100_000), COMPARE.format(100_000), COMBINE.format(10_000), PEAK, SPREAD.format(2_000)),
)
