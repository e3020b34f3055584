"""A run's page: its steps as a picture and in words, what is missing of them, and where it leads on."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.catalog.models import AgentVersion
from apps.core import clock
from apps.execution.models import Approval, Outcome, Recording, Run, RunStep
from apps.execution.pages.waterfall import waterfall
from apps.observability.models import ErrorEvent
from tests.factories import ApiKeyFactory, DeclaredAgentFactory, DropInFactory, RunFactory, UpstreamFactory

pytestmark = pytest.mark.django_db

Page = Callable[[Run], str]


@pytest.fixture
def page(admin_client: Client) -> Page:
    def page(run: Run) -> str:
        answer = admin_client.get(f"/admin/execution/run/{run.pk}/change/")
        assert answer.status_code == 200
        return answer.content.decode()

    return page


def step(run: Run, number: int, **fields: Any) -> RunStep:
    known = {"kind": "tool", "name": f"step{number}", "outcome": "ok", "began_ms": number * 10.0, "duration_ms": 10.0}
    return RunStep.objects.create(run_id=run.pk, number=number, run_started_at=run.started_at, **known | fields)


def drawn(run: Run) -> Any:
    return waterfall(run, list(RunStep.objects.filter(run_id=run.pk)))


class TestPicture:
    def test_steps_stand_below_what_they_were_made_in(self) -> None:
        run = RunFactory()
        for number, parent in ((1, None), (2, 1), (3, None), (4, 2), (5, 1)):
            step(run, number, parent=parent)
        assert [(row.number, row.depth) for row in drawn(run).rows] == [
            ("1", "0"), ("2", "1"), ("4", "2"), ("5", "1"), ("3", "0"),
        ]  # fmt: skip

    def test_model_calls_tell_their_turn_through_handoffs_and_for_each_nested_agent(self) -> None:
        run = RunFactory()
        steps = [
            ("agent", "Desk", None),
            ("model", "m", 1),
            ("tool", "ask_expert", 1),
            ("agent", "Expert", 3),
            ("model", "m", 4),
            ("model", "m", 4),
            ("model", "m", 1),
            ("handoff", "Shop", 1),
            ("agent", "Shop", None),
            ("model", "m", 9),
            ("agent", "Shop", None),  # a run of its own, that a workflow starts after it
            ("model", "m", 11),
            ("model", "alone", None),
        ]
        for number, (kind, name, parent) in enumerate(steps, start=1):
            step(run, number, kind=kind, name=name, parent=parent)
        turns = [(row.number, row.turn) for row in drawn(run).rows if row.kind == "model"]
        assert turns == [("2", "1"), ("5", "1"), ("6", "2"), ("7", "2"), ("10", "3"), ("12", "1"), ("13", "1")]

    def test_bars_stand_where_they_were_in_time(self) -> None:
        run = RunFactory(duration_ms=1000.0, first_event_ms=250.0)
        step(run, 1, began_ms=100.0, duration_ms=400.0)
        picture = drawn(run)
        assert picture.rows[0].bar == "left: 10.00%; width: 40.00%"
        assert (picture.first_event.left, picture.first_event.text) == (25.0, "250 ms")
        assert [(tick.left, tick.text) for tick in picture.ticks] == [
            (0.0, "0"), (20.0, "0.2 s"), (40.0, "0.4 s"), (60.0, "0.6 s"), (80.0, "0.8 s"), (100.0, "1.0 s"),
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("began", "duration", "bar", "took"),
        [
            (500.0, None, "left: 50.00%; width: 50.00%", ""),
            (-20.0, -5.0, "left: 0.00%; width: 0.00%", "0 ms"),
            (0.0, 0.0, "left: 0.00%; width: 0.00%", "0 ms"),
        ],
    )
    def test_odd_times_are_drawn_as_well_as_can_be(
        self, began: float, duration: float | None, bar: str, took: str
    ) -> None:
        run = RunFactory(duration_ms=1000.0)
        step(run, 1, began_ms=began, duration_ms=duration)
        row = drawn(run).rows[0]
        assert (row.bar, row.took) == (bar, took)

    def test_run_of_no_time_at_all_is_drawn(self, page: Page) -> None:
        run = RunFactory(duration_ms=-3.0, first_event_ms=None)
        step(run, 1, began_ms=0.0, duration_ms=0.0)
        assert "step1" in page(run)

    @pytest.mark.parametrize("parent", [7, 2, 9])  # missing, itself, one that began later
    def test_step_without_its_parent_stands_alone(self, page: Page, parent: int) -> None:
        run = RunFactory()
        step(run, 1)
        step(run, 2, parent=parent)
        if parent == 9:
            step(run, 9, parent=2)
        assert f"Made in step {parent}, which is missing." in page(run)

    def test_path_leads_from_agent_to_agent_but_not_into_tools(self) -> None:
        run = RunFactory(agent_id="default/triage")
        step(run, 1, kind="agent", name="Triage")
        step(run, 2, kind="handoff", name="Nobody", parent=1, outcome="error")
        step(run, 3, kind="tool", name="ask", parent=1)
        step(run, 4, kind="agent", name="Helper", parent=3)
        step(run, 5, kind="handoff", name="Helpers friend", parent=4)
        step(run, 6, kind="handoff", name="Billing", parent=1)
        step(run, 7, kind="agent", name="Billing")
        assert drawn(run).path == ["Triage", "Billing"]

    def test_model_call_says_its_tokens_and_a_failure_its_error(self, page: Page) -> None:
        run = RunFactory()
        step(run, 1, kind="model", name="gpt", detail={"prompt_tokens": 7, "completion_tokens": 5, "estimated": True})
        step(run, 2, outcome="timeout", error="took too long", detail={"source": "gateway-http"})
        text = page(run)
        assert "about 7 + 5 tokens" in text
        assert re.search(r'run-is-danger">timeout<.*took too long.*gateway-http', text, re.DOTALL)

    def test_five_hundred_steps_in_one_line_are_drawn(self, page: Page) -> None:
        run = RunFactory()
        RunStep.objects.bulk_create(
            RunStep(run_id=run.pk, number=number, parent=number - 1 or None, kind="tool", name="t", outcome="ok",
                    began_ms=number, duration_ms=1, run_started_at=run.started_at)
            for number in range(1, 501)
        )  # fmt: skip
        assert page(run).count('class="run-bar') == 500


class TestWhatIsMissing:
    @pytest.mark.parametrize(
        ("age", "keep", "words"),
        [
            (timedelta(0), 14, "Its steps are not written yet."),
            (timedelta(days=20), 14, "they are kept for 14 days, which have passed."),
            (timedelta(days=20), 0, "No step was kept."),
            (timedelta(days=1), 14, "No step was kept."),
        ],
    )
    def test_why_there_are_no_steps(self, page: Page, age: timedelta, keep: int, words: str) -> None:
        Recording(keep_steps_days=keep).save()
        assert words in page(RunFactory(started_at=clock.now() - age))

    def test_gaps_and_what_was_left_out_are_counted(self, page: Page) -> None:
        run = RunFactory()
        step(run, 1)
        step(run, 4, detail={"steps_left_out": 12})
        text = page(run)
        assert "2 steps are missing: dropped, or not written yet." in text
        assert "12 more steps followed" in text

    def test_says_that_contents_are_not_recorded(self, page: Page) -> None:
        run = RunFactory()
        step(run, 1)
        assert "Contents are not recorded. Turn it on under" in page(run)
        RunStep.objects.update(input="What is said", output="What came")
        text = page(run)
        assert "Contents are not recorded" not in text
        assert "What is said" in text
        assert "What came" in text


ODD = '<script>alert("x")</script>\u202e\u0627\u0644 ' + "w" * 180


def test_names_errors_and_contents_are_texts(page: Page) -> None:
    run = RunFactory(error=ODD, outcome=Outcome.FAILED, key_name=ODD[:120], user_name=ODD[:200], agent_id=ODD[:200])
    step(run, 1, kind="agent", name=ODD[:200], outcome=ODD[:20], error=ODD, input=ODD, output=ODD, detail={ODD: ODD})
    step(run, 2, kind="handoff", name=ODD[:200], parent=1)
    text = page(run)
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert") > 10


def test_page_costs_the_same_for_any_number_of_steps(page: Page) -> None:
    def queries(number: int) -> int:
        run = RunFactory()
        for one in range(1, number + 1):
            step(run, one, parent=one - 1 or None)
        with CaptureQueriesContext(connection) as found:
            page(run)
        return len(found)

    page(RunFactory())  # content types are asked for once
    assert queries(1) == queries(3) == 11


class TestLinks:
    def test_key_upstream_and_version_lead_to_their_pages(self, page: Page) -> None:
        key, upstream = ApiKeyFactory(name="UI"), UpstreamFactory(slug="openai")
        agent = DropInFactory(agent_id="default/a", folder_id="default/a", digest="a" * 64)
        text = page(RunFactory(agent_id="default/a", agent_digest="a" * 64, key_id=key.pk, upstream="openai"))
        assert f'href="/admin/access/apikey/{key.pk}/change/"' in text
        assert f'href="/admin/upstreams/upstream/{upstream.pk}/change/"' in text
        assert f'href="/admin/catalog/dropin/{agent.pk}/change/#version-aaaaaaaaaaaa"' in text
        assert "serves now" in text

    def test_former_version_is_told_from_one_that_is_not_kept(self, page: Page) -> None:
        DropInFactory(agent_id="default/a", folder_id="default/a", digest="a" * 64)
        run = RunFactory(agent_id="default/a", agent_digest="b" * 64)
        assert "its files are not kept" in page(run)
        now = clock.now()
        AgentVersion.objects.create(
            folder_id="default/a", digest="b" * 64, size=1, file_count=1, first_loaded_at=now, last_loaded_at=now
        )
        assert "a former version" in page(run)

    def test_declared_agent_leads_to_its_versions(self, page: Page) -> None:
        agent = DeclaredAgentFactory(name="helpdesk")
        assert f"/admin/catalog/declaredagent/{agent.pk}/versions/" in page(RunFactory(agent_id="default/helpdesk"))

    def test_what_is_gone_is_said(self, page: Page) -> None:
        text = page(RunFactory(agent_id="default/gone", key_id=99, key_name="Old key"))
        assert text.count("is no longer there") == 2

    def test_run_that_waits_and_the_one_that_went_on_lead_to_each_other(self, page: Page) -> None:
        began, key = clock.now() - timedelta(minutes=9), {"agent_id": "default/a", "key_id": 1, "user_id": "u"}
        waits = RunFactory(started_at=began, duration_ms=900.0, outcome=Outcome.WAITING, **key)
        decided = began + timedelta(minutes=2)
        goes_on = RunFactory(started_at=decided - timedelta(milliseconds=40), duration_ms=900.0, **key)
        approval = Approval.objects.create(
            id="apr_1", agent_id="default/a", key_id=1, user_id="u", calls=[{"name": "pay", "arguments": "{}"}],
            created_at=began + timedelta(milliseconds=800), decided_at=decided, approved=[1],
            expires_at=began + timedelta(days=1),
        )  # fmt: skip
        for by_reference in (False, True):  # without steps by who and when
            if by_reference:
                step(waits, 1, kind="approval", name="pay", outcome="waiting", detail={"reference": "apr_1"})
                step(goes_on, 1, kind="approval", name="pay", outcome="approved", detail={"reference": "apr_1"})
            text = page(waits)
            assert f"/admin/execution/approval/{approval.pk}/change/" in text
            assert f"/admin/execution/run/{goes_on.pk}/change/" in text
            text = page(goes_on)
            assert "It goes on after an approval (approved):" in text
            assert f"/admin/execution/run/{waits.pk}/change/" in text


class TestErrorsOfTheRequest:
    @pytest.fixture
    def failed(self) -> Run:
        now = clock.now()
        ErrorEvent.objects.create(
            stage="execute", code="upstream_timeout", message="It did not answer.", remedy="Look at the server.",
            traceback="Traceback: secret", request_id="req_1", fingerprint="1", first_at=now, last_at=now,
        )  # fmt: skip
        return RunFactory(request_id="req_1", outcome=Outcome.FAILED, error="It did not answer.")

    def test_stand_with_their_remedy_and_the_runs_own_only_once(self, page: Page, failed: Run) -> None:
        text = page(failed).partition("All values")[0]
        assert text.count("It did not answer.") == 1
        assert "Look at the server." in text
        assert "Traceback: secret" in text

    def test_are_for_who_may_see_them(self, failed: Run) -> None:
        client = Client()
        user = User.objects.create_user("viewer", is_staff=True)
        user.user_permissions.add(Permission.objects.get(codename="view_run"))
        client.force_login(user)
        text = client.get(f"/admin/execution/run/{failed.pk}/change/").content.decode()
        assert "It did not answer." in text
        assert "Look at the server." not in text


def test_who_may_not_see_runs_sees_no_page() -> None:
    client = Client()
    client.force_login(User.objects.create_user("nobody", is_staff=True))
    assert client.get(f"/admin/execution/run/{RunFactory().pk}/change/").status_code == 403
