"""The pages Explain, Access of a key, and Denials: they say what a request is answered."""

import re
from collections.abc import Callable
from datetime import timedelta
from time import perf_counter
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import Permission
from django.template.loader import render_to_string
from django.test import Client

from apps.access.authenticate import authenticate
from apps.access.authorise import ask
from apps.access.decide import Action, LimitState, Target, decide
from apps.access.keys import find_by_id, find_key, issue_key
from apps.access.models import ApiKey, Denial, Grant, Override, Team, ToolRule
from apps.access.overrides import override
from apps.access.policy import Effect, Kind, Policy
from apps.access.subject import Key, Subject
from apps.console.access.explain import Answer, ShownStep
from apps.core import clock, live_config
from apps.core.errors import Unauthenticated
from apps.execution.tool_access import sentence
from apps.observability import error_ring
from tests.console.test_agent_versions import Browser
from tests.factories import DropInFactory, GrantFactory
from tests.harness import GatewayServer, eventually

EXPLAIN = "/admin/access/explain/"
DENIALS = "/admin/access/denial/"


def access_of(key: ApiKey) -> str:
    return f"/admin/access/of-key/{key.pk}/"


def explained(client: Client, key: ApiKey, agent: str = "default/weather", **asked: str) -> Answer:
    response = client.get(EXPLAIN, {"key": key.pk, "agent": agent, **asked})
    answer: Answer = response.context["answer"]
    return answer


def at_the_door(environ: dict[str, str]) -> Subject | str:
    """Who a request is from, or what it is told when it gets no further."""
    try:
        return authenticate(environ)
    except Unauthenticated as error:
        return error.message


@pytest.fixture
def _catalog() -> None:
    DropInFactory(agent_id="default/weather", tools=["get_weather", "delete_record"])
    DropInFactory(agent_id="labs/planner", tools=[{"name": "plan", "module": "agents.labs.planner"}])


# --- Explain ---------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.usefixtures("_catalog")
class TestExplain:
    @pytest.fixture
    def keys(self) -> dict[str, tuple[ApiKey, str]]:
        """Every way in which a key can be refused, and rules at every level."""
        now = clock.now()
        support = Team.objects.create(name="Support")
        suspended = Team.objects.create(name="Suspended", suspended=True, suspended_reason="a key leaked")
        keys = {
            "all": issue_key("all"),
            "none": issue_key("none", agents=[]),
            "labs": issue_key("labs", agents=["labs/*"]),
            "team": issue_key("team", agents=[], team=support),
            "suspended": issue_key("suspended", team=suspended),
            "expired": issue_key("expired", expires_at=now - timedelta(seconds=1)),
            "revoked": issue_key("revoked"),
            "home": issue_key("home", ip_ranges=["10.0.0.0/8"], origins=["https://chat.example.com"]),
            "admin only": issue_key("admin only", may_chat=False, may_administer=True),
            "overridden": issue_key("overridden"),
        }
        ApiKey.objects.filter(name="revoked").revoke(now)
        GrantFactory(agents="default/weather", team=support)
        GrantFactory(agents="labs/*", effect="deny", namespace="labs")
        GrantFactory(agents="labs/planner")
        ToolRule.objects.create(pattern="delete_*", effect="deny")
        ToolRule.objects.create(pattern="delete_*", key=keys["labs"][0])
        ToolRule.objects.create(pattern="os.*", by="module", effect="deny")
        override(effect=Effect.DENY, about=Kind.AGENT, pattern="default/*", ttl=timedelta(hours=1), reason="x",
                 author="ada", key=keys["overridden"][0])  # fmt: skip
        return keys

    @pytest.mark.parametrize("place", [("", ""), ("10.1.2.3", "https://chat.example.com"), ("192.0.2.1", "")])
    @pytest.mark.parametrize(
        "target",
        [
            Target("default/weather"),
            Target("labs/planner"),
            Target("nowhere/agent"),
            Target("default/weather", "get_weather"),
            Target("default/weather", "delete_record"),
            Target("default/weather", "remove", "os.path"),
        ],
        ids=str,
    )
    def test_gives_every_key_the_answer_of_a_request(
        self, admin_client: Client, keys: dict[str, tuple[ApiKey, str]], target: Target, place: tuple[str, str]
    ) -> None:
        """The other side goes the way of a request: `authenticate` by the credential, then `ask`."""
        address, origin = place
        for key, credential in keys.values():
            answer = explained(admin_client, key, target.agent, tool=target.tool, module=target.module,
                               address=address, origin=origin)  # fmt: skip
            environ = {"HTTP_X_API_KEY": credential, "REMOTE_ADDR": address, "HTTP_ORIGIN": origin}
            subject = at_the_door(environ)
            if isinstance(subject, str):
                assert (answer.decision.allowed, answer.decision.code) == (False, "key_ended")
                assert (answer.status, answer.sentence) == (401, subject) or target.tool
                continue
            decision = ask(subject, Action.USE_TOOL if target.tool else Action.CHAT, target)
            assert answer.decision == decision, key.name
            told = sentence(target.tool, decision) if target.tool else decision.reason
            assert answer.sentence == told

    def test_shows_a_large_verdict_the_sentence_and_the_rule_that_spoke(self, admin_client: Client) -> None:
        key, _ = issue_key("k")
        rule = GrantFactory(agents="default/weather", effect="deny", key=key, note="Too wet")
        page = admin_client.get(EXPLAIN, {"key": key.pk, "agent": "default/weather"}).content.decode()
        assert "Refused" in page
        sentence = "The API key may not use the agent &#x27;default/weather&#x27;."
        assert f"The caller gets HTTP 403: “{sentence}”" in " ".join(page.split())
        assert f'href="/admin/access/grant/{rule.pk}/change/"' in page
        assert [(one.step.text, one.step.outcome) for one in explained(admin_client, key).steps] == [
            ("The key is in force, its team, address, origin and scope are as they have to be.", "passed"),
            ("Deny agent default/weather for the key (Too wet)", "spoke"),
            ("Allow agent * for the key", "outranked"),
        ]

    def test_supposes_an_override_and_makes_none(self, admin_client: Client) -> None:
        key, _ = issue_key("k", agents=[])
        supposed = {"supposed_effect": "allow", "supposed_about": "agent", "supposed_pattern": "default/*"}
        assert explained(admin_client, key).decision.allowed is False
        answer = explained(admin_client, key, **supposed)
        assert (answer.decision.allowed, answer.steps[1].step.outcome, answer.steps[1].link) == (True, "spoke", "")
        assert not Override.objects.exists()

    def test_answers_for_another_time(self, admin_client: Client) -> None:
        ends = clock.now() + timedelta(days=1)
        key, _ = issue_key("k", expires_at=ends)
        later = (ends + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
        assert [explained(admin_client, key, at=at).decision.code for at in ("", later)] == ["granted", "key_ended"]

    def test_sees_an_edit_of_this_moment(self, admin_client: Client) -> None:
        key, _ = issue_key("k", agents=[])
        assert explained(admin_client, key).decision.allowed is False
        Grant.objects.create(key=key, effect="allow", agents="default/*")
        assert explained(admin_client, key).decision.allowed is True

    @pytest.mark.parametrize(
        ("asked", "note"),
        [
            ({"agent": "default/wether"}, "The catalog has no agent default/wether. Did you mean default/weather?"),
            ({"tool": "get_weather"}, "Rules about modules were not asked: the tool's module is not given."),
        ],
    )
    def test_notes_what_else_to_know(self, admin_client: Client, asked: dict[str, str], note: str) -> None:
        key, _ = issue_key("k")
        assert list(explained(admin_client, key, **asked).notes) == [note]

    def test_notes_that_the_place_is_missing(self, admin_client: Client) -> None:
        key, _ = issue_key("k", ip_ranges=["10.0.0.0/8"])
        assert list(explained(admin_client, key).notes) == [
            "No address was given, and the key may be used only from 10.0.0.0/8."
        ]

    def test_allowed_tool_of_a_refused_agent_is_noted(self, admin_client: Client) -> None:
        key, _ = issue_key("k", agents=[])
        answer = explained(admin_client, key, tool="get_weather", module="agents.weather")
        note = "But a chat with default/weather is refused: The API key may not use the agent 'default/weather'."
        assert (answer.decision.allowed, list(answer.notes)) == (True, [note])

    def test_link_asks_the_same_again(self, admin_client: Client) -> None:
        key, _ = issue_key("k")
        asked = {"key": str(key.pk), "agent": "default/weather", "tool": "get_weather"}
        link = admin_client.get(EXPLAIN, asked | {"module": "", "person": ""}).context["permalink"]
        parts = urlsplit(link)
        assert (parts.netloc, parts.path) == ("testserver", EXPLAIN)
        assert parse_qs(parts.query) == {name: [value] for name, value in asked.items()}

    @pytest.mark.parametrize(
        ("asked", "field"),
        [
            ({"key": "9999"}, "key"),
            ({"agent": ""}, "agent"),
            ({"module": "os"}, "tool"),
            ({"at": "soon"}, "at"),
            ({"supposed_effect": "allow"}, "supposed_pattern"),
        ],
    )
    def test_bad_input_names_its_field(self, admin_client: Client, asked: dict[str, str], field: str) -> None:
        key, _ = issue_key("k")
        response = admin_client.get(EXPLAIN, {"key": str(key.pk), "agent": "default/weather"} | asked)
        assert list(response.context["form"].errors) == [field]
        assert response.context["answer"] is None

    def test_limits_are_bars(self) -> None:
        limits = [LimitState("key k", "requests", 10, 4, 30), LimitState("team t", "tokens", 1000, 1000, 60)]
        policy = Policy.of([])
        decision = decide(policy, Subject(Key(1, "k")), Action.CHAT, Target("a/b"), at=clock.now(), limits=limits)
        page = render_to_string("console/access/answer.html", {"answer": Answer(decision, "?", "", list[ShownStep]())})
        text = " ".join(page.split())
        assert re.findall(r'aria-valuenow="(\d+)"> <div class="(\S+)" style="height: 4px; width: (\d+)%"', text) == [
            ("40", "bg-primary-600", "40"),
            ("100", "bg-red-600", "100"),
        ]
        assert "1,000 of 1,000 tokens, anew in 1m0s" in text

    def test_first_look_says_what_it_is_for(self, admin_client: Client) -> None:
        assert "Choose a key and an agent." in admin_client.get(EXPLAIN).content.decode()

    def test_needs_the_permission_to_view_keys_and_grants(self, django_user_model: Any) -> None:
        reader = django_user_model.objects.create_user("reader", password="x", is_staff=True)
        client, key = Client(), issue_key("k")[0]
        assert client.get(EXPLAIN)["Location"] == f"/admin/login/?next={EXPLAIN}"
        client.force_login(reader)
        assert [client.get(url).status_code for url in (EXPLAIN, access_of(key))] == [403, 403]
        reader.user_permissions.set(Permission.objects.filter(codename__in=["view_apikey", "view_grant"]))
        assert [client.get(url).status_code for url in (EXPLAIN, access_of(key))] == [200, 200]


class TestExplainBesideARealRequest:
    """A server process, an operator in its admin, and a caller at its door."""

    @pytest.mark.parametrize(("agents", "status"), [(["default/*"], 200), (["labs/*"], 403)])
    def test_says_the_status_and_the_sentence_that_the_caller_gets(
        self, gateway: GatewayServer, agents: list[str], status: int
    ) -> None:
        key = gateway.operator.issue_key("explained", agents=agents)
        headers = {"x-api-key": key["credential"], "content-type": "application/json"}
        eventually(lambda: gateway.request("GET", "/v1/models", headers=headers).status, 200)
        agent = "default/plain"
        body = b'{"model": "default/plain", "messages": [{"role": "user", "content": "[[say=Hello.]]"}]}'
        answer = gateway.request("POST", "/v1/chat/completions", body=body, headers=headers)
        page = " ".join(Browser(gateway).get(f"{EXPLAIN}?key={key['id']}&agent={agent}").split())
        assert answer.status == status
        if status == 200:
            assert ">Allowed</div>" in page
        else:
            sentence = answer.error["message"].replace("'", "&#x27;")
            assert f"The caller gets HTTP {status}: “{sentence}”" in page


# --- Access of a key -------------------------------------------------------------------------------------------------


def cells(client: Client, key: ApiKey, **asked: str) -> dict[str, tuple[bool, dict[str, bool]]]:
    """{agent: (may chat, {tool: may be called})} as the page shows it."""
    groups = client.get(access_of(key), asked).context["groups"]
    return {
        row.agent_id: (row.chat.is_allowed, {cell.text: cell.is_allowed for cell in row.tools})
        for _, rows in groups
        for row in rows
    }


@pytest.mark.django_db
class TestAccessOfAKey:
    @pytest.mark.usefixtures("_catalog")
    def test_is_a_matrix_of_agents_and_tools(self, admin_client: Client) -> None:
        key, _ = issue_key("k", agents=["default/*"])
        ToolRule.objects.create(pattern="delete_*", effect="deny")
        ToolRule.objects.create(pattern="agents.labs.*", by="module", effect="deny")
        assert cells(admin_client, key) == {
            "default/weather": (True, {"get_weather": True, "delete_record": False}),
            "labs/planner": (False, {"plan": False}),
        }

    @pytest.mark.usefixtures("_catalog")
    def test_every_cell_is_what_decide_says(self, admin_client: Client) -> None:
        key, credential = issue_key("k", agents=["*"])
        GrantFactory(agents="labs/*", effect="deny", key=key)
        ToolRule.objects.create(pattern="get_*", effect="deny", key=key)
        shown = cells(admin_client, key)
        known = find_key(credential)
        assert known is not None
        live_config.refresh()
        for agent, (may_chat, tools) in shown.items():
            assert may_chat is ask(Subject(known), Action.CHAT, Target(agent)).allowed
            for tool, may_use in tools.items():
                assert may_use is ask(Subject(known), Action.USE_TOOL, Target(agent, tool)).allowed

    @pytest.mark.usefixtures("_catalog")
    def test_names_and_links_the_rule_and_shows_overrides_with_the_time_left(self, admin_client: Client) -> None:
        key, _ = issue_key("k", agents=[])
        rule = GrantFactory(agents="default/*")
        made = override(effect=Effect.ALLOW, about=Kind.AGENT, pattern="labs/*", ttl=timedelta(hours=2, minutes=1),
                        reason="Demo day", author="ada", key=key)  # fmt: skip
        page = admin_client.get(access_of(key)).content.decode().replace("\xa0", " ")
        for words in ("Allow agent default/* for everyone", "Demo day", "2 hours left", "2 of 2 agents"):
            assert words in page
        for link in (f"/admin/access/grant/{rule.pk}/change/", f"/admin/access/override/{made.pk}/change/"):
            assert f'href="{link}"' in page

    @pytest.mark.usefixtures("_catalog")
    def test_says_why_a_key_may_use_nothing(self, admin_client: Client) -> None:
        key, _ = issue_key("k", team=Team.objects.create(name="Support", suspended=True, suspended_reason="a leak."))
        page = admin_client.get(access_of(key)).content.decode()
        assert "It may use nothing: The team &#x27;Support&#x27; is suspended: a leak." in page

    @pytest.mark.usefixtures("_catalog")
    def test_is_about_rules_not_about_where_one_sits(self, admin_client: Client) -> None:
        key, _ = issue_key("k", ip_ranges=["10.0.0.0/8"], origins=["https://chat.example.com"])
        assert cells(admin_client, key)["default/weather"][0] is True

    @pytest.mark.usefixtures("_catalog")
    def test_rules_about_modules_that_are_not_known_are_mentioned(self, admin_client: Client) -> None:
        key, _ = issue_key("k")
        assert admin_client.get(access_of(key)).context["is_module_unknown"] is False
        ToolRule.objects.create(pattern="os.*", by="module", effect="deny")
        assert admin_client.get(access_of(key)).context["is_module_unknown"] is True

    def test_key_page_leads_to_it(self, admin_client: Client) -> None:
        key, _ = issue_key("k")
        page = admin_client.get(f"/admin/access/apikey/{key.pk}/change/").content.decode()
        assert f"/admin/access/apikey/{key.pk}/access/" in page
        response = admin_client.get(f"/admin/access/apikey/{key.pk}/access/")
        assert response["Location"] == access_of(key)

    def test_a_thousand_agents_are_shown_a_hundred_at_a_time_in_a_second(
        self, admin_client: Client, count_queries: Callable[..., int]
    ) -> None:
        key, _ = issue_key("k", agents=["default/*"])
        for number in range(1000):
            DropInFactory(agent_id=f"default/agent-{number:04}", tools=["one", "two", "three", "four"])
        admin_client.get(access_of(key))  # templates are compiled once
        seconds = []
        for _ in range(3):  # the best counts: machines stand still at times
            began = perf_counter()
            response = admin_client.get(access_of(key), {"page": "2"})
            seconds.append(perf_counter() - began)
        assert min(seconds) < 1
        assert "Agents 101 to 200 of 1000" in " ".join(response.content.decode().split())
        assert list(cells(admin_client, key, q="agent-0042")) == ["default/agent-0042"]
        assert count_queries(lambda: admin_client.get(access_of(key))) == 6

    def test_no_agents_says_how_to_begin(self, admin_client: Client) -> None:
        key, _ = issue_key("k")
        assert "There are no agents yet." in admin_client.get(access_of(key)).content.decode()
        page = admin_client.get(access_of(key), {"q": "x"}).content.decode()
        assert "No agent id has “x” in it." in page

    def test_unknown_key_is_not_found(self, admin_client: Client) -> None:
        assert admin_client.get("/admin/access/of-key/9999/").status_code == 404


# --- Denials ---------------------------------------------------------------------------------------------------------


def deny(key: ApiKey, action: Action, target: Target) -> None:
    """Refused as a request is, and written as the ring writes."""
    live_config.forget()
    known = find_by_id(key.pk)
    assert known is not None
    error_ring.start()
    ask(Subject(known), action, target)
    error_ring.stop()


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("_catalog")
class TestDenials:
    @pytest.fixture(autouse=True)
    def _nothing_waits_to_be_written(self) -> None:
        error_ring.start()
        error_ring.stop()
        Denial.objects.all().delete()

    def test_lists_what_was_denied_with_its_rule_and_count(self, admin_client: Client) -> None:
        key, _ = issue_key("Open WebUI")
        rule = GrantFactory(agents="default/*", effect="deny", key=key)
        for _ in range(3):
            deny(key, Action.CHAT, Target("default/weather"))
        (row,) = admin_client.get(DENIALS).context["cl"].result_list
        assert (row.count, row.key, row.rule.id) == (3, key, f"grant-{rule.pk}")
        page = admin_client.get(DENIALS).content.decode()
        for words in ("Open WebUI", "default/weather", "Deny agent default/* for the key", "Explain"):
            assert words in page

    def test_buttons_lead_to_the_explanation_and_to_an_override_that_helps(self, admin_client: Client) -> None:
        key, _ = issue_key("k", agents=[], ip_ranges=["10.0.0.0/8"])
        Grant.objects.create(effect="allow", agents="labs/*")
        deny_from_home = Subject(Key(key.pk, "k", ip_ranges=["10.0.0.0/8"]), address="10.0.0.1")
        error_ring.start()
        ask(deny_from_home, Action.CHAT, Target("default/weather"))
        error_ring.stop()
        page = admin_client.get(DENIALS).content.decode().replace("&amp;", "&")
        links = [part.split('"')[0] for part in page.split('href="')]
        (explain,) = [link for link in links if link.startswith(f"{EXPLAIN}?")]
        (add,) = [link for link in links if link.startswith("/admin/access/override/add/?")]
        assert admin_client.get(explain).context["answer"].decision.code == "no_grant"
        shown = admin_client.get(add).context["adminform"].form
        filled = {name: shown[name].value() for name in ("key", "effect", "about", "pattern", "duration")}
        assert filled == {
            "key": str(key.pk), "effect": "allow", "about": "agent", "pattern": "default/weather", "duration": "3600",
        }  # fmt: skip
        admin_client.post(add, {**filled, "minutes": "", "reason": "Asked for."})
        assert admin_client.get(explain).context["answer"].decision.allowed

    @pytest.mark.parametrize(
        ("by", "pattern", "allowed"),
        [("tool", "delete_*", ("tool", "delete_record")), ("module", "os.*", ("module", "os.*"))],
    )
    def test_override_of_a_tool_is_about_what_was_denied(
        self, admin_client: Client, by: str, pattern: str, allowed: tuple[str, str]
    ) -> None:
        key, _ = issue_key("k")
        ToolRule.objects.create(by=by, pattern=pattern, effect="deny")
        deny(key, Action.USE_TOOL, Target("default/weather", "delete_record", "os.path"))
        page = admin_client.get(DENIALS).content.decode().replace("&amp;", "&")
        (query,) = [part.split('"')[0] for part in page.split('href="/admin/access/override/add/?')[1:]]
        asked = parse_qs(query)
        assert (asked["about"], asked["pattern"]) == ([allowed[0]], [allowed[1]])

    def test_what_no_override_helps_has_none(self, admin_client: Client) -> None:
        key, _ = issue_key("k", team=Team.objects.create(name="Support", suspended=True))
        deny(key, Action.CHAT, Target("default/weather"))
        page = admin_client.get(DENIALS).content.decode()
        assert ("Explain</a>" in page, "Override for 1 hour" in page) == (True, False)

    def test_rule_and_key_that_are_gone_are_said_to_be(self, admin_client: Client) -> None:
        key, _ = issue_key("Former")
        rule = GrantFactory(agents="default/*", effect="deny", key=key)
        deny(key, Action.CHAT, Target("default/weather"))
        ApiKey.objects.all().delete()
        page = admin_client.get(DENIALS).content.decode()
        assert f"grant-{rule.pk}, gone since" in page
        assert "Former, gone since" in page

    def test_shows_denials_only_and_changes_nothing(self, admin_client: Client) -> None:
        error_ring.start()
        error_ring.note("execute", code="x", message="Another failure")
        error_ring.stop()
        page = admin_client.get(DENIALS).content.decode()
        assert "Another failure" not in page
        assert "Nothing was denied" in page
        assert admin_client.get(f"{DENIALS}add/").status_code == 403

    @pytest.mark.parametrize("rows", [1, 3])
    def test_costs_the_same_for_any_number_of_rows(
        self, admin_client: Client, count_queries: Callable[..., int], rows: int
    ) -> None:
        for number in range(rows):
            key, _ = issue_key(f"k{number}")
            GrantFactory(agents="default/*", effect="deny", key=key)
            deny(key, Action.CHAT, Target("default/weather"))
        assert Denial.objects.count() == rows
        assert count_queries(lambda: admin_client.get(DENIALS)) == 8
