"""pytest-socket beside us: a replay needs no socket, and what it blocks was not sent."""

from __future__ import annotations

THEIRS = """
    import socket
    import pytest
    from client import CLIENTS, by_httpx
    from pytest_socket import SocketBlockedError, SocketConnectBlockedError

    @pytest.mark.parametrize("client", ["httpx", "httpx2", "requests"])
    def test_blocked(client):
        with pytest.raises(SocketBlockedError):
            CLIENTS[client]("never")

    def test_enabled(socket_enabled):
        assert by_httpx("one") == "You said: one"

    @pytest.mark.allow_hosts(["127.0.0.1"])
    def test_allowed():
        assert by_httpx("two words") == "You said: two words"

    @pytest.mark.allow_hosts(["10.0.0.1"])
    @pytest.mark.parametrize("client", ["httpx", "httpx2", "requests"])
    def test_another_host(client):
        with pytest.raises(SocketConnectBlockedError):
            CLIENTS[client]("never")
    """


def test_a_test_of_theirs_is_as_without_us_and_is_counted(same_with_and_without):
    (side,) = same_with_and_without(["--disable-socket"], plugins=("socket",), test_theirs=THEIRS)
    assert {outcome for outcome, _ in side.outcomes.values()} == {"passed"}
    assert {test: usage["total_tokens"] for test, usage in side.usage.items()} == {
        "test_enabled": 4, "test_allowed": 6,
    }  # fmt: skip
    assert all(usage["unmeasured_requests"] == 0 for usage in side.usage.values())
    assert len(side.bills) == 2


def test_a_replay_needs_no_socket(pytester, client, run, reported, document):
    pytester.makepyfile(
        test_a="""
        import asyncio
        import pytest
        from client import CLIENTS, async_by_httpx

        @pytest.mark.token_budget(max_tokens=4)
        @pytest.mark.parametrize("client", ["httpx", "httpx2", "requests"])
        def test_sync(client):
            assert CLIENTS[client]("one") == "You said: one"

        @pytest.mark.token_budget(max_tokens=3)
        def test_over():
            CLIENTS["httpx2"]("one")

        @pytest.mark.token_budget(max_tokens=8)
        def test_async():
            assert CLIENTS["aiohttp"]("one") == "You said: one"
            assert asyncio.run(async_by_httpx("two")) == "You said: two"
        """
    )
    run("--token-record=once").assert_outcomes(passed=4, failed=1)
    for arguments in (
        ("--disable-socket", "--allow-unix-socket"),  # an event loop's own pair
        ("--allow-hosts=10.0.0.1", "--allow-unix-socket"),
    ):
        run(*arguments, "--token-report=json", plugins=("socket",)).assert_outcomes(passed=4, failed=1)
        assert {test["verdict"] for test in reported().values()} == {"within", "over"}
        assert document()["total"]["total_tokens"] == 24
        assert document()["drift"] == document()["blocked"] == []
    assert len(client.bills) == 6


def test_what_it_blocks_is_not_recorded_and_not_counted(pytester, client, run, document):
    pytester.makepyfile(
        test_a="""
        from client import by_httpx2

        def test_it(usage):
            try:
                by_httpx2("one")
            finally:
                assert usage.requests == usage.unmeasured_requests == 0
        """
    )
    result = run("--disable-socket", "--token-record=once", "--token-report=json", plugins=("socket",))
    result.assert_outcomes(failed=1)
    assert "SocketBlockedError" in result.stdout.str()
    assert document()["total"]["requests"] == 0
    assert list(pytester.path.rglob("*.yaml*")) == []
    assert client.ledger == ()
