"""Probing against real sockets: a small HTTP server answers what each test wants, the demo server is a process."""

import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from apps.core.errors import (
    GatewayError,
    InvalidModelOutput,
    UpstreamError,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnreachable,
)
from apps.core.models import ConfigVersion
from apps.upstreams import detect, probe
from apps.upstreams.detect import PRESETS, Candidate, candidates_of, detect_upstreams
from apps.upstreams.models import Kind, Upstream, UpstreamModel
from tests.harness.forked import Forked

ROOT = Path(__file__).resolve().parents[2]
Answers = dict[str, tuple[int, str, bytes]]  # by path: status, content type, body


class Fake:
    """An HTTP server whose answers a test may change while it runs. `seen` holds (method, path, headers, body)."""

    def __init__(self) -> None:
        self.answers: Answers = {}
        self.headers: dict[str, str] = {}
        self.seen: list[tuple[str, str, Any, Any]] = []
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def respond(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                fake.seen.append((self.command, self.path, self.headers, json.loads(body) if body else None))
                status, kind, content = fake.answers.get(self.path, (404, "text/plain", b"no"))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                for name, value in fake.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = respond  # noqa: N815  # http.server's names

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self.server.server_port}/v1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def lists(self, *names: str) -> None:
        self.answers["/v1/models"] = _json({"object": "list", "data": [{"id": name} for name in names]})

    def chats(self) -> None:
        self.answers["/v1/chat/completions"] = _json({"choices": [{"message": {"content": "yes"}}]})

    def asked(self, path: str) -> Any:
        """The body of the one request for `path`."""
        ((_, _, _, body),) = [one for one in self.seen if one[1] == path]
        return body


def _json(value: Any, status: int = 200) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(value).encode()


@pytest.fixture
def fake() -> Iterator[Fake]:
    server = Fake()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.fixture
def silent() -> Iterator[str]:
    """The base URL of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/v1"


@pytest.fixture
def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@pytest.fixture
def demo_server() -> Iterator[Callable[..., str]]:
    """Starts `manage.py demo_upstream` as a process; returns its base URL."""
    started: list[Forked] = []

    def start(*options: str) -> str:
        command = ["manage.py", "demo_upstream", "--port", "0", "--delay", "0", *options]
        process = Forked(command, folder=ROOT, environment=os.environ)
        started.append(process)
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        return found[0]

    yield start
    for process in started:
        process.terminate()
        process.communicate(timeout=30)
        process.close()


def upstream(base_url: str = "", kind: Kind = Kind.OTHER, secret: str = "", **fields: Any) -> Upstream:
    row = Upstream(slug="box", kind=kind, base_url=base_url, **fields)
    row.secret = secret
    row.save()
    return row


async def read(base_url: str, secret: str = "", timeout: float = 5) -> list[str]:  # noqa: ASYNC109  # as probe has it
    return await probe.read_models(base_url=base_url, secret=secret, timeout=timeout)


class TestReadModels:
    @pytest.mark.parametrize(
        ("answer", "names"),
        [
            ({"object": "list", "data": [{"id": "a"}, {"id": "b"}]}, ["a", "b"]),
            ([{"id": "a"}, "b"], ["a", "b"]),
            ({"models": [{"name": "a"}, {"model": "b"}]}, ["a", "b"]),
            ({"models": [{"name": "a", "model": "a"}], "object": "list", "data": [{"id": "a"}]}, ["a"]),  # llama.cpp
            ({"data": [{"id": " a "}, {"id": None}, 7, {}]}, ["a"]),
            ({"data": None}, []),
            ({"data": []}, []),
        ],
    )
    async def test_takes_the_shapes_that_servers_have(self, fake: Fake, answer: Any, names: list[str]) -> None:
        fake.answers["/v1/models"] = _json(answer)
        assert await read(fake.base_url) == names

    async def test_sends_the_secret_as_a_bearer_token(self, fake: Fake) -> None:
        fake.lists("a")
        await read(fake.base_url + "/", secret="s3cret")
        method, path, headers, _ = fake.seen[0]
        assert (method, path, headers["Authorization"]) == ("GET", "/v1/models", "Bearer s3cret")

    async def test_sends_no_authorization_without_a_secret(self, fake: Fake) -> None:
        fake.lists("a")
        await read(fake.base_url)
        assert fake.seen[0][2]["Authorization"] is None

    async def test_nothing_listening_asks_whether_the_server_is_started(self, closed_port: int) -> None:
        with pytest.raises(UpstreamUnreachable, match=r"^Nothing listens at \S+; is the server started\?"):
            await read(f"http://127.0.0.1:{closed_port}/v1")

    async def test_unknown_host_says_so(self) -> None:
        with pytest.raises(UpstreamUnreachable, match=r"host name of \S+ is not known here"):
            await read("http://no-such-host.invalid/v1")

    async def test_silence_is_a_timeout(self, silent: str) -> None:
        with pytest.raises(UpstreamTimeout, match=r"did not answer within 0\.2 s"):
            await read(silent, timeout=0.2)

    @pytest.mark.parametrize("base_url", ["ftp://127.0.0.1/v1", "nonsense", "http://", "http://[::1"])
    async def test_no_address_at_all_is_explained(self, base_url: str) -> None:
        with pytest.raises(UpstreamUnreachable, match=r"It should look like|cannot be sent"):
            await read(base_url)

    async def test_secret_with_a_line_break_is_explained(self, fake: Fake) -> None:
        with pytest.raises(UpstreamUnreachable, match=r"Check the base URL and the secret"):
            await read(fake.base_url, secret="a\nb")

    @pytest.mark.parametrize(
        ("status", "body", "secret", "error", "message"),
        [
            (401, {}, "", UpstreamRejected, "It wants a secret, and none is set"),
            (401, {"error": {"message": "Bad key."}}, "x", UpstreamRejected, r"wrong or expired.*It says: Bad key\."),
            (403, {"message": "Not you."}, "x", UpstreamRejected, r"may not do this.*It says: Not you\."),
            (404, {"detail": "Not Found"}, "", UpstreamRejected, r"does not exist \(404\).*It says: Not Found"),
            (429, {}, "", UpstreamRejected, "too many requests"),
            (422, {"detail": "what"}, "", UpstreamRejected, "refused the request with 422. It says: what"),
            (500, {"error": "boom"}, "", UpstreamError, r"failed with 500.*It says: boom"),
            # As llama.cpp says it.
            (
                503,
                {"error": {"code": 503, "message": "Loading model"}},
                "",
                UpstreamError,
                r"still loads.*Loading model",
            ),
        ],
    )
    async def test_error_status_gives_a_remedy(
        self, fake: Fake, status: int, body: Any, secret: str, error: type[GatewayError], message: str
    ) -> None:
        fake.answers["/v1/models"] = _json(body, status)
        with pytest.raises(error, match=message):
            await read(fake.base_url, secret=secret)

    async def test_password_in_the_address_is_told_to_nobody(self, closed_port: int) -> None:
        with pytest.raises(UpstreamUnreachable) as caught:
            await read(f"http://ann:s3cret@127.0.0.1:{closed_port}/v1?key=s3cret")
        assert caught.value.message.startswith(f"Nothing listens at http://127.0.0.1:{closed_port}/v1;")

    async def test_redirect_names_the_address_to_enter(self, fake: Fake) -> None:
        fake.answers["/v1/models"] = (308, "text/plain", b"")
        fake.headers["Location"] = "https://elsewhere.example/v1/models"
        with pytest.raises(UpstreamRejected, match=r"redirects to https://elsewhere.example/v1/models"):
            await read(fake.base_url)

    @pytest.mark.parametrize(
        ("path", "kind", "body", "message"),
        [
            (
                "",
                "text/html",
                b"<!doctype html><html>hello",
                r"answers with a web page. The base URL probably lacks /v1",
            ),
            ("/v1", "text/html", b"<html>hello", "answers with a web page. Is this an LLM server"),
            ("/v1", "application/json", b"{", "does not answer with JSON"),
            ("/v1", "application/json", b"\xff\xfe", "does not answer with JSON"),
            ("/v1", "application/json", b'{"hello": 1}', "does not answer with a list of models"),
            ("/v1", "application/json", b"3", "does not answer with a list of models"),
        ],
    )
    async def test_other_answers_are_no_model_list(
        self, fake: Fake, path: str, kind: str, body: bytes, message: str
    ) -> None:
        fake.answers[f"{path}/models"] = (200, kind, body)
        with pytest.raises(InvalidModelOutput, match=message):
            await read(fake.base_url.removesuffix("/v1") + path)


@pytest.mark.django_db
class TestRefreshModels:
    def test_stores_the_list_and_chooses_a_chat_model(self, fake: Fake) -> None:
        fake.lists("text-embedding-3", "llama-3", "qwen")
        row = upstream(fake.base_url, last_error="old")
        assert probe.refresh_models(row) == ["text-embedding-3", "llama-3", "qwen"]
        row.refresh_from_db()
        assert list(row.models.values_list("name", flat=True)) == ["llama-3", "qwen", "text-embedding-3"]
        assert (row.default_model, row.last_error, row.models_read_at is None) == ("llama-3", "", False)

    def test_unchanged_list_does_not_disturb_the_configuration(self, fake: Fake) -> None:
        fake.lists("a", "b")
        row = upstream(fake.base_url)
        probe.refresh_models(row)
        before = ConfigVersion.current()
        fake.lists("b", "a", "b")
        probe.refresh_models(row)
        assert ConfigVersion.current() == before

    def test_changed_list_is_taken_over_and_published(self, fake: Fake) -> None:
        fake.lists("a", "b")
        row = upstream(fake.base_url)
        probe.refresh_models(row)
        before = ConfigVersion.current()
        fake.lists("b", "c", "x" * 201)
        assert probe.refresh_models(row) == ["b", "c"]
        assert list(row.models.values_list("name", flat=True)) == ["b", "c"]
        assert ConfigVersion.current() > before
        assert Upstream.objects.get().default_model == "a"  # the operator's choice, or ours before: never changed

    def test_failure_is_stored_and_keeps_the_list(self, fake: Fake) -> None:
        fake.lists("a")
        row = upstream(fake.base_url)
        probe.refresh_models(row)
        before = ConfigVersion.current()
        fake.answers.clear()
        with pytest.raises(UpstreamRejected) as caught:
            probe.refresh_models(row)
        row.refresh_from_db()
        assert (row.last_error, row.models.count()) == (caught.value.message, 1)
        assert ConfigVersion.current() == before

    def test_demo_needs_no_server(self) -> None:
        row = upstream(kind=Kind.DEMO)
        assert probe.refresh_models(row) == ["demo"]
        assert Upstream.objects.get().default_model == "demo"

    def test_unreadable_secret_says_how_to_mend_it(self, fake: Fake) -> None:
        row = upstream(fake.base_url, encrypted_secret="garbage")
        Upstream.objects.update(encrypted_secret="garbage")
        row.refresh_from_db()
        with pytest.raises(UpstreamRejected, match="enter the secret again"):
            probe.refresh_models(row)


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["gpt-4o", "gpt-5-mini", "o1"], "gpt-5-mini"),
        (["text-embedding-3", "whisper-1", "tts-1", "bge-m3", "nomic-embed-text", "llama3:8b"], "llama3:8b"),
        (["models/gemini-2.5-pro"], "models/gemini-2.5-pro"),
        (["Mistral-Large-Instruct-2411"], "Mistral-Large-Instruct-2411"),
        (["nomic-embed-text"], ""),
        ([], ""),
    ],
)
def test_first_chat_model_passes_over_what_cannot_chat(names: list[str], chosen: str) -> None:
    assert probe.first_chat_model(names) == chosen


@pytest.mark.django_db
class TestTestUpstream:
    def test_real_demo_server_passes(self, demo_server: Callable[..., str]) -> None:
        report = probe.test_upstream(upstream(demo_server(), Kind.VLLM))
        assert [(step.name, step.passed) for step in report.steps] == [("models", True), ("chat", True)]
        assert report.models >= 1
        assert report.latency_ms is not None
        assert report.passed

    def test_wrong_key_is_told_with_its_remedy(self, demo_server: Callable[..., str]) -> None:
        row = upstream(demo_server("--api-key", "right"), secret="wrong")
        report = probe.test_upstream(row)
        assert [step.passed for step in report.steps] == [False]
        assert "answered 401. The secret is wrong or expired" in report.steps[0].text

    def test_openai_gets_its_own_name_for_the_limit(self, fake: Fake) -> None:
        fake.lists("gpt-5-mini")
        fake.chats()
        assert probe.test_upstream(upstream(fake.base_url, Kind.OPENAI)).passed
        assert fake.asked("/v1/chat/completions") == {
            "model": "gpt-5-mini",
            "messages": [{"role": "user", "content": "Say yes."}],
            "max_completion_tokens": 16,
        }

    def test_others_are_asked_for_one_token(self, fake: Fake) -> None:
        fake.lists("qwen")
        fake.chats()
        assert probe.test_upstream(upstream(fake.base_url)).passed
        assert fake.asked("/v1/chat/completions")["max_tokens"] == 1

    def test_failing_chat_is_noted(self, fake: Fake) -> None:
        fake.lists("qwen")
        fake.answers["/v1/chat/completions"] = _json({"error": {"message": "out of memory"}}, 500)
        row = upstream(fake.base_url)
        report = probe.test_upstream(row)
        assert [step.passed for step in report.steps] == [True, False]
        row.refresh_from_db()
        assert row.last_error == report.steps[1].text
        assert "out of memory" in row.last_error

    def test_answer_without_choices_fails(self, fake: Fake) -> None:
        fake.lists("qwen")
        fake.answers["/v1/chat/completions"] = _json({"hello": 1})
        assert "without `choices`" in probe.test_upstream(upstream(fake.base_url)).steps[1].text

    @pytest.mark.parametrize(
        ("marked", "status", "words"),
        [
            (True, 400, [(True, "It has the Responses API: agents with hosted tools run here.")]),
            (True, 404, [(False, "It is marked as having the Responses API, but has none")]),
            (True, 200, [(False, "It is marked as having the Responses API, but has none")]),  # as LM Studio answers
            (False, 422, [(True, "It has the Responses API. If it runs hosted tools")]),
            (False, 404, []),
        ],
    )
    def test_responses_api_is_looked_for_without_running_a_model(
        self, fake: Fake, marked: bool, status: int, words: list[tuple[bool, str]]
    ) -> None:
        fake.lists("qwen")
        fake.chats()
        fake.answers["/v1/responses"] = _json({"error": {"message": "Missing required parameter: 'model'."}}, status)
        row = upstream(fake.base_url)
        row.speaks_responses = marked
        told = probe.test_upstream(row).steps[2:]

        assert fake.asked("/v1/responses") == {}
        assert [(step.name, step.passed) for step in told] == [("responses", passed) for passed, _ in words]
        assert all(step.text.startswith(text) for step, (_, text) in zip(told, words, strict=True))

    def test_server_without_a_list_passes_by_its_chat(self, fake: Fake) -> None:
        fake.answers["/v1/models"] = (500, "text/plain", b"Internal Server Error")  # transformers serve
        fake.chats()
        row = upstream(fake.base_url, lists_models=False, default_model="qwen")
        report = probe.test_upstream(row)
        assert [(step.name, step.passed) for step in report.steps] == [("models", True), ("chat", True)]
        assert report.steps[0].text == "The server answers; it is marked as listing no models."

    def test_server_without_models_asks_for_one(self, fake: Fake) -> None:
        fake.lists()
        report = probe.test_upstream(upstream(fake.base_url))
        assert [step.passed for step in report.steps] == [False, False]
        assert "choose one of its models" in report.steps[1].text


@pytest.mark.django_db
class TestDetectUpstreams:
    def test_nothing_found_gives_the_demo(self, closed_port: int, settings: Any) -> None:
        settings.GATEWAY_DEFAULT_UPSTREAM = ""
        found = detect_upstreams([Candidate("ollama", Kind.OLLAMA, f"http://127.0.0.1:{closed_port}/v1")])
        assert found is not None
        row = Upstream.objects.get()
        assert (row.slug, row.kind, row.default_model, row.is_default) == ("demo", Kind.DEMO, "demo", True)
        assert list(row.models.values_list("name", flat=True)) == ["demo"]
        assert "built-in demo" in found.remarks[0]

    def test_found_server_is_stored_with_its_kinds_switches(self, fake: Fake, settings: Any) -> None:
        settings.GATEWAY_DEFAULT_UPSTREAM = ""
        fake.lists("qwen")
        found = detect_upstreams([Candidate("vllm", Kind.VLLM, fake.base_url)])
        assert found is not None
        row = Upstream.objects.get()
        assert (row.slug, row.is_default, row.default_model) == ("vllm", True, "qwen")
        assert {name: getattr(row, name) for name in PRESETS[Kind.VLLM]} == {
            "takes_reasoning_effort": False,
            "takes_verbosity": False,
            "takes_developer_role": False,
            "takes_several_system_messages": False,
            "speaks_responses": False,
            "retries": 1,
            "cooldown": 15,
            "first_event_timeout": 120,
        }
        assert found.lines == (f"vllm: found at {fake.base_url}, 1 model",)

    def test_first_in_order_is_the_default(self, fake: Fake, settings: Any) -> None:
        settings.GATEWAY_DEFAULT_UPSTREAM = ""
        fake.lists("qwen")
        places = [Candidate(slug, Kind.OTHER, fake.base_url) for slug in ("one", "two")]
        detect_upstreams(places)
        assert list(Upstream.objects.values_list("slug", "is_default")) == [("one", True), ("two", False)]

    def test_operator_chooses_upstream_and_model(self, fake: Fake, settings: Any) -> None:
        settings.GATEWAY_DEFAULT_UPSTREAM, settings.GATEWAY_DEFAULT_MODEL = "two", "qwen-large"
        fake.lists("qwen")
        detect_upstreams([Candidate(slug, Kind.OTHER, fake.base_url) for slug in ("one", "two")])
        default = Upstream.objects.get(is_default=True)
        assert (default.slug, default.default_model) == ("two", "qwen-large")

    def test_operator_may_choose_the_demo(self, fake: Fake, settings: Any) -> None:
        settings.GATEWAY_DEFAULT_UPSTREAM = "demo"
        fake.lists("qwen")
        detect_upstreams([Candidate("one", Kind.OTHER, fake.base_url)])
        assert Upstream.objects.get(is_default=True).slug == "demo"
        assert Upstream.objects.count() == 2

    def test_named_server_that_fails_is_kept_beside_the_demo(self, closed_port: int, settings: Any) -> None:
        settings.GATEWAY_DEFAULT_UPSTREAM = ""
        place = Candidate("openai", Kind.OPENAI, f"http://127.0.0.1:{closed_port}/v1", "sk-x", named=True)
        detect_upstreams([place])
        row = Upstream.objects.get(slug="openai")
        assert (row.secret, row.is_default, row.last_error.startswith("Nothing listens")) == ("sk-x", False, True)
        assert Upstream.objects.get(is_default=True).slug == "demo"

    @pytest.mark.parametrize(("owner", "kept"), [("llamacpp", ["demo", "llamacpp"]), ("somebody", ["demo"])])
    def test_port_that_others_use_too_has_to_say_who_it_is(
        self, fake: Fake, settings: Any, owner: str, kept: list[str]
    ) -> None:
        settings.GATEWAY_DEFAULT_UPSTREAM = "demo"
        fake.answers["/v1/models"] = _json({"data": [{"id": "qwen", "owned_by": owner}]})
        detect_upstreams([Candidate("llamacpp", Kind.LLAMA_CPP, fake.base_url, owner="llamacpp")])
        assert list(Upstream.objects.values_list("slug", flat=True)) == kept

    def test_server_without_models_is_no_default(self, fake: Fake, settings: Any) -> None:
        settings.GATEWAY_DEFAULT_UPSTREAM = ""
        fake.lists()
        detect_upstreams([Candidate("ollama", Kind.OLLAMA, fake.base_url)])
        assert Upstream.objects.get(is_default=True).slug == "demo"

    def test_runs_on_the_first_start_only(self, fake: Fake) -> None:
        upstream(fake.base_url)
        assert detect_upstreams([Candidate("one", Kind.OTHER, fake.base_url)]) is None
        assert fake.seen == []


class TestCandidates:
    def test_local_servers_in_order(self, settings: Any) -> None:
        settings.GATEWAY_PORT = 9999
        assert [place.slug for place in candidates_of({})] == ["vllm", "lmstudio", "ollama", "llamacpp"]

    def test_own_port_is_never_asked(self, settings: Any) -> None:
        settings.GATEWAY_PORT = 8000
        places = candidates_of({"OPENAI_BASE_URL": "http://localhost:8000/v1"})
        assert [place.slug for place in places] == ["lmstudio", "ollama", "llamacpp"]

    @pytest.mark.parametrize(
        ("environ", "kind", "base_url"),
        [
            ({"OPENAI_API_KEY": " k "}, Kind.OPENAI, "https://api.openai.com/v1"),
            ({"OPENAI_API_KEY": " k ", "OPENAI_BASE_URL": "http://box:1/v1/"}, Kind.OTHER, "http://box:1/v1"),
            ({"OPENAI_API_KEY": " k ", "OPENAI_BASE_URL": "http://box:port"}, Kind.OTHER, "http://box:port"),
        ],
    )
    def test_environment_names_the_first(self, environ: dict[str, str], kind: Kind, base_url: str) -> None:
        assert candidates_of(environ)[0] == Candidate("openai", kind, base_url, "k", named=True)

    def test_one_server_is_asked_once(self, settings: Any) -> None:
        settings.GATEWAY_PORT = 9999
        places = candidates_of({"OPENAI_BASE_URL": "http://localhost:11434/v1"})
        assert [place.slug for place in places] == ["openai", "vllm", "lmstudio", "llamacpp"]

    def test_openai_alone_has_the_responses_api_from_the_start(self) -> None:
        assert [kind for kind, preset in PRESETS.items() if preset["speaks_responses"]] == [Kind.OPENAI]

    def test_every_kind_has_a_preset(self) -> None:
        assert set(detect.PRESETS) == set(Kind)


@pytest.mark.django_db
def test_models_of_a_deleted_upstream_go_with_it(fake: Fake) -> None:
    fake.lists("a")
    row = upstream(fake.base_url)
    probe.refresh_models(row)
    row.delete()
    assert not UpstreamModel.objects.exists()
