"""Secrets in a run: filters of the user's own beside ours, and what failures and reports say."""

from __future__ import annotations

import copy
import json

import pytest
import yaml
from planted_secrets import SHAPED
from test_replay import CLIENT, recording

KEY = SHAPED["google"]
OPAQUE = "opaque-value-of-the-query-17"
HOOK = "https://hooks.slack.com/services/T01234567/B01234567/" + "abcdefghijklmnop12345678"


@pytest.fixture
def client(pytester, server):
    pytester.makepyfile(client=CLIENT)
    return server


def test_filters_of_the_user_come_first_and_ours_last(pytester, client, run):
    pytester.makeconftest(
        f"""
        import json
        import pytest

        KEY = {KEY!r}

        def before_record_request(request):
            with open("seen", "a") as seen:
                print(request.headers.get("authorization"), request.headers.get("x-tenant"), file=seen)
            body = json.loads(request.body)
            if body["messages"][0]["content"] == "not this one":
                return None
            body["seen"] = body["messages"][0]["content"][:8]
            request.body = json.dumps(body).encode()
            request.headers["x-note"] = "kept nowhere"
            return request

        def before_record_response(response):
            with open("seen", "a") as seen:
                print(sorted(map(str.lower, response["headers"])), file=seen)
            body = json.loads(response["body"]["string"])
            body["filtered"] = KEY  # what a filter puts in is looked through too
            response["body"]["string"] = json.dumps(body).encode()
            return response

        @pytest.fixture(scope="session")
        def vcr_config():
            return {{
                "filter_headers": [("x-tenant", "tenant"), "cookie"],
                "filter_query_parameters": ["tenant", ("user", "somebody")],
                "filter_post_data_parameters": ["run_id"],
                "before_record_request": before_record_request,
                "before_record_response": before_record_response,
            }}
        """
    )
    pytester.makepyfile(
        test_a="""
        import httpx2 as httpx
        from client import URL, body

        def ask(text, run_id):
            headers = {"authorization": "Bearer of-the-test", "x-tenant": "acme"}
            with httpx.Client(trust_env=False, headers=headers) as client:
                return client.post(URL + "/chat/completions?tenant=acme&user=me", json={**body(text), "run_id": run_id}).json()

        def test_it(usage):
            import os
            assert "You said: one" in str(ask("one two", os.environ.get("RUN_ID", "1")))
            if "RUN_ID" not in os.environ:
                ask("not this one", "1")
        """
    )
    run("--token-record=once").assert_outcomes(passed=1)
    # They see what was sent and answered, whatever of it is stored.
    seen = (pytester.path / "seen").read_text("utf-8")
    assert "Bearer of-the-test tenant\n" in seen
    assert "'set-cookie'" in seen
    (path,) = pytester.path.rglob("*.yaml")
    (each,) = recording(path)
    assert each["request"]["uri"].endswith("/chat/completions?user=somebody")
    assert set(each["request"]["headers"]) <= {"content-type", "accept"}
    stored = json.loads(each["request"]["body"])
    assert stored["seen"] == "one two"
    assert "run_id" not in stored
    assert json.loads(each["response"]["body"]["string"])["filtered"] == "REDACTED"
    assert KEY not in path.read_text("utf-8")
    # A replayed request passes the same filters, so what they take out need not be the same.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RUN_ID", "2")
        run().assert_outcomes(passed=1)


@pytest.mark.parametrize("name", ["before_record", "before_record_request"])
def test_a_list_of_filters(pytester, client, run, name):
    pytester.makeconftest(
        f"""
        import pytest

        def first(request):
            request.uri = request.uri.replace("a=1", "a=2")
            return request

        def second(request):
            request.uri = request.uri.replace("a=2", "a=3")
            return request

        @pytest.fixture
        def vcr_config():
            return {{{name!r}: [first, second]}}
        """
    )
    pytester.makepyfile(
        test_a="""
        import httpx2 as httpx
        from client import URL, body

        def test_it(usage):
            with httpx.Client(trust_env=False) as client:
                client.post(URL + "/chat/completions?a=1", json=body("x")).raise_for_status()
        """
    )
    run("--token-record=once").assert_outcomes(passed=1)
    (path,) = pytester.path.rglob("*.yaml")
    assert recording(path)[0]["request"]["uri"].endswith("?a=3")
    run().assert_outcomes(passed=1)


def test_no_failure_and_no_report_shows_a_secret(pytester, client, run):
    pytester.makepyfile(
        test_a=f"""
        import httpx2 as httpx
        import pytest
        from client import URL, body

        KEY, OPAQUE, HOOK = {KEY!r}, {OPAQUE!r}, {HOOK!r}

        def ask(text):
            with httpx.Client(trust_env=False) as client:
                client.post(f"{{URL}}/chat/completions?key={{OPAQUE}}&x={{KEY}}", json=body(text), headers={{"x-api-key": KEY}})

        @pytest.mark.token_budget(max_tokens=1000)
        def test_drift():
            ask("another")

        def test_missing(usage):
            ask("x")

        def test_swallowed(usage):
            try:
                ask("another")
            except BaseException as error:
                print("caught:", error)

        def test_threads(usage):
            import threading
            thread = threading.Thread(target=ask, args=("another",))
            thread.start()
            thread.join()

        def test_unplayed(usage):
            ask("x")

        def test_twice(usage):
            ask("x")
            ask("x")

        def test_path(usage):
            ask("x")
            httpx.post(HOOK, json={{}})
        """
    )
    # As an older recorder left them: nothing redacted.
    uri = f"{client.openai_url}/chat/completions?key={OPAQUE}&x={KEY}"
    body = '{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]}'
    answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "gpt-4o-mini", "choices": [
        {"index": 0, "message": {"role": "assistant", "content": "y"}, "finish_reason": "stop"}
    ], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}  # fmt: skip
    interaction = {
        "request": {"method": "POST", "uri": uri, "body": body, "headers": {"x-api-key": [KEY]}},
        "response": {
            "status": {"code": 200, "message": "OK"},
            "headers": {"content-type": ["application/json"]},
            "body": {"string": json.dumps(answer)},
        },
    }
    folder = pytester.path / "cassettes" / "test_a"
    folder.mkdir(parents=True)
    for name in ("test_drift", "test_swallowed", "test_threads", "test_unplayed", "test_twice", "test_path"):
        interactions = [copy.deepcopy(interaction) for _ in range(1 + (name == "test_unplayed"))]
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"interactions": interactions, "version": 1}), "utf-8")
    result = run(
        "-o", "token_unplayed=fail", "-W", "ignore", "--token-report=term", "--token-report=json", "--token-report=markdown",
        "--junit-xml=junit.xml", "-vv", "--tb=native", "-rA",
    )  # fmt: skip
    result.assert_outcomes(failed=7)
    said = result.stdout.str() + result.stderr.str()
    assert "request 1 to /v1/chat/completions" in said
    assert "caught: no recording in" in said
    assert "?key=REDACTED&x=REDACTED" in said
    assert "did not ask for 1 recording(s)" in said
    texts = {
        path.name: path.read_text("utf-8")
        for path in pytester.path.iterdir()
        if path.suffix in (".json", ".md", ".xml")
    }
    assert set(texts) == {"token-report.json", "token-report.md", "junit.xml"}
    source = (pytester.path / "test_a.py").read_text("utf-8").splitlines()[3]
    for name, text in {"terminal": said, **texts}.items():
        assert KEY not in text.replace(source, ""), name
        assert OPAQUE not in text.replace(source, ""), name
        assert HOOK.rpartition("/")[2] not in text.replace(source, ""), name
