"""The command line, beside pytest: ``tokenbudget`` or ``python -m pytest_tokenbudget``.

Here are the words it takes and the exit status; each command's work is done by the module that it imports, so that
``--help`` and a typing error load nothing else.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from typing import TYPE_CHECKING

from pytest_tokenbudget import __version__
from pytest_tokenbudget.errors import ConfigurationError, TokenBudgetError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

EXIT_FAILED = 1
EXIT_USAGE = 4
"""What pytest answers where a file or an option can't be used."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after the program's name; the process's own where there are none.

    Returns:
        The exit status: 0, 1 where the answer is no, 4 where a file or an option can't be used.
    """
    words = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = words.command
    try:
        status = command(words)
        if sys.stdout is not None:
            sys.stdout.flush()
    except TokenBudgetError as error:
        from pytest_tokenbudget.report.text import printable  # noqa: PLC0415 - see the module

        _say(f"tokenbudget: {printable(str(error))}\n")
        return EXIT_USAGE if isinstance(error, ConfigurationError) else EXIT_FAILED
    except OSError as error:
        # What is left in the buffer must not fail again at exit.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # who reads has enough, as with `| head`
            return EXIT_FAILED
        what = "the output can't be written" if error.filename is None else error.filename
        _say(f"tokenbudget: {what}: {error.strerror or error}\n")
        return EXIT_USAGE
    return status


def show_prices(words: argparse.Namespace) -> int:
    """The rates of one model, or where the prices come from."""
    from pytest_tokenbudget.commands import prices_of  # noqa: PLC0415 - see the module

    _write(sys.stdout, prices_of(words.model, prices=words.prices, day=words.date))
    return 0


def combine_reports(words: argparse.Namespace) -> int:
    """The reports of a run's shards as one, and its verdict."""
    from pytest_tokenbudget.commands import combine  # noqa: PLC0415 - see the module

    combined = combine(
        words.reports,
        output=words.output,
        markdown=words.markdown,
        html=words.html,
        baseline=words.baseline,
        tolerance=words.tolerance,
        total_max_cost=words.total_max_cost,
        total_max_tokens=words.total_max_tokens,
        prices=words.prices,
        verbosity=words.verbose,
    )
    if combined.printed:
        _write(sys.stdout, combined.printed)
    _say(combined.said)
    return EXIT_FAILED if combined.failed else 0


def show_difference(words: argparse.Namespace) -> int:
    """What changed between two reports."""
    from pytest_tokenbudget.commands import difference_of  # noqa: PLC0415 - see the module

    _write(sys.stdout, difference_of(words.old, words.new, markdown=words.format == "markdown"))
    return 0


def show_repriced(words: argparse.Namespace) -> int:
    """What a run would cost on another model."""
    from pytest_tokenbudget.commands import repriced  # noqa: PLC0415 - see the module

    _write(sys.stdout, repriced(words.report, words.model, prices=words.prices, day=words.date))
    return 0


def scan_recordings(words: argparse.Namespace) -> int:
    """Secrets in recordings, and what is broken, too old or unused."""
    from pytest_tokenbudget.commands import scan  # noqa: PLC0415 - see the module

    scanned = scan(words.paths, max_age=words.max_age, report=words.report, strict=words.strict)
    _write(sys.stdout, scanned.printed)
    return EXIT_FAILED if scanned.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tokenbudget", description="What tests spend on language models, beside pytest.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"pytest-tokenbudget {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_combine(commands)
    _add_diff(commands)
    _add_prices(commands)
    _add_scan(commands)
    _add_reprice(commands)
    return parser


def _add_combine(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    combine = commands.add_parser(
        "combine",
        help="join the JSON reports of CI shards, and judge the whole run",
        description="Join the JSON reports of one run that CI split into shards, in any order, and judge the whole: "
        "exit status 0 where all is within, 1 where a test or the total is not, or a shard did not come to its end, "
        "4 where a file can't be used. The summary goes to standard error.",
        allow_abbrev=False,
    )
    combine.add_argument("reports", nargs="+", metavar="REPORT", help="files that --token-report=json wrote")
    combine.add_argument(
        "-o", "--output", metavar="OUT", help="where the joined report goes (default: -, the output)"
    )
    combine.add_argument("--markdown", metavar="FILE", help="write it as Markdown too, for a job's summary page")
    combine.add_argument("--html", metavar="FILE", help="write it as a page for a browser too")
    combine.add_argument("--baseline", metavar="FILE", help="hold all tests against this baseline")
    combine.add_argument(
        "--tolerance",
        metavar="PERCENT",
        help='how far above it a test may go, such as "5%%" (a marker\'s own goes first)',
    )
    combine.add_argument("--total-max-cost", metavar="USD", help="fail when all tests together cost more")
    combine.add_argument("--total-max-tokens", metavar="N", help="fail when all tests together use more")
    combine.add_argument("--prices", metavar="FILE", help="prices of your own, to price the baseline with")
    combine.add_argument("-v", "--verbose", action="count", default=0, help="-vv shows every test and call")
    combine.set_defaults(command=combine_reports)


def _add_diff(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    diff = commands.add_parser(
        "diff",
        help="show what changed between two JSON reports",
        description="Show which tests cost more or less than before, the biggest change first, with the totals. "
        "The Markdown begins with a marker by which a job finds the comment that it wrote before.",
        allow_abbrev=False,
    )
    diff.add_argument("old", metavar="OLD", help="the report to compare with, for example of the main branch")
    diff.add_argument("new", metavar="NEW", help="the report of the change")
    diff.add_argument("--format", choices=("text", "markdown"), default="text", help="default: text")
    diff.set_defaults(command=show_difference)


def _add_prices(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    prices = commands.add_parser(
        "prices",
        help="show a model's list prices, or where prices come from",
        description="Show a model's list prices, or where prices come from. The network is never asked.",
        allow_abbrev=False,
    )
    prices.add_argument("model", nargs="?", metavar="MODEL", help="for example gpt-4o-mini or azure:gpt-4o")
    _add_price_options(prices)
    prices.set_defaults(command=show_prices)


def _add_scan(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    scan = commands.add_parser(
        "scan",
        help="look through recordings for secrets, and for what is broken, too old or unused",
        description="Look through cassettes for secrets, however they are written or packed, and list the recordings "
        "that are broken, too old or unused. No secret is printed, only its kind, its place and its first letters. "
        "Exit status 0 where nothing was found, 1 for a secret, a broken file or an age that does not hold, 4 where "
        "an option or a path can't be used.",
        allow_abbrev=False,
    )
    scan.add_argument(
        "paths",
        nargs="*",
        metavar="PATH",
        help="cassettes, or folders with some (default: each folder cassettes below)",
    )
    scan.add_argument("--max-age", metavar="AGE", help="how old a recording may be, such as 90d")
    scan.add_argument(
        "--report", metavar="REPORT", help="the JSON report of a whole run, which knows what no test used"
    )
    scan.add_argument("--strict", action="store_true", help="unused cassettes and leftovers are exit status 1 too")
    scan.set_defaults(command=scan_recordings)


def _add_reprice(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    reprice = commands.add_parser(
        "reprice",
        help="say what a run would cost on another model",
        description="Say what the same tokens would cost on another model. The network is never asked.",
        allow_abbrev=False,
    )
    reprice.add_argument("report", metavar="REPORT", help="a file that --token-report=json wrote")
    reprice.add_argument("--as", dest="model", metavar="MODEL", required=True, help="for example gpt-4o-mini")
    _add_price_options(reprice)
    reprice.set_defaults(command=show_repriced)


def _add_price_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--prices", metavar="FILE", help="prices of your own, as the ini option token_prices names")
    parser.add_argument("--date", metavar="YYYY-MM-DD", help="the day whose list prices hold")


def _say(text: str) -> None:
    """Tell people, if anybody listens."""
    if sys.stderr is not None:
        _write(sys.stderr, text)


def _write(stream: TextIO | None, text: str) -> None:
    """Write to a stream of any encoding; what it can't take is written as an escape."""
    if stream is None:  # it was closed before Python started
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    try:
        stream.write(text)
    except UnicodeEncodeError:
        encoding = stream.encoding
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
