"""Which modules may load, as operators set it: rules, the lock and denied imports, review and approval."""

import re
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client

from apps.catalog import scan
from apps.catalog.models import AgentVersion, ApprovedVersion, DropIn, Effect, ModulePolicy, ModuleRule, State
from apps.catalog.modules_admin import USUAL
from apps.core.models import ConfigVersion
from tests.console.test_agents import LIST, agent, diagnose, version

RULES, POLICY, APPROVALS = (f"/admin/catalog/{one}/" for one in ("modulerule", "modulepolicy", "approvedversion"))
A, B = "a" * 64, "b" * 64

pytestmark = pytest.mark.django_db


def words(html: bytes) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html.decode()).split())


def staff(django_user_model: Any, *codenames: str) -> Client:
    user = django_user_model.objects.create_user("staff", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
    client = Client()
    client.force_login(user)
    return client


class TestRules:
    def add(self, client: Client, pattern: str, effect: str = "deny") -> str:
        form = {"pattern": pattern, "effect": effect, "reason": ""}
        return words(client.post(f"{RULES}add/", form, follow=True).content)

    def test_is_added_in_lower_case_by_whoever_adds_it_and_published(
        self, admin_client: Client, admin_user: Any
    ) -> None:
        agent("planner")
        before = ConfigVersion.current()
        self.add(admin_client, " Default/*Planner ")
        (row,) = ModuleRule.objects.all()
        assert (row.pattern, row.effect, row.created_by) == ("default/*planner", Effect.DENY, admin_user)
        assert ConfigVersion.current() > before

    @pytest.mark.parametrize("pattern", ["", "a b", "!labs/*", "labs/[a-z]"])
    def test_pattern_that_fits_no_id_is_refused(self, admin_client: Client, pattern: str) -> None:
        self.add(admin_client, pattern)
        assert not ModuleRule.objects.exists()

    def test_rule_that_decides_nothing_says_so_when_it_is_saved(self, admin_client: Client) -> None:
        agent("planner")
        assert "nobody/*: It fits no folder that is known now." in self.add(admin_client, "nobody/*")
        self.add(admin_client, "default/planner")
        said = self.add(admin_client, "*planner", "allow")
        assert "*planner: More specific rules decide: deny default/planner." in said

    def test_list_says_what_each_decides_about_those_included_that_are_kept_out(self, admin_client: Client) -> None:
        agent("one")
        gone = agent("gone", State.GONE)
        diagnose(DropIn(agent_id="labs/never-seen"), code="denied", severity="warning")
        for pattern in ("default/*", "labs/*", gone.agent_id):
            ModuleRule(pattern=pattern, effect=Effect.DENY).save()
        rows = {row.pattern: row.decision for row in admin_client.get(RULES).context["cl"].result_list}
        assert rows == {
            "default/*": "default/one",
            "labs/*": "labs/never-seen",
            "default/gone": "It fits no folder that is known now.",
        }

    @pytest.mark.parametrize("count", [1, 3])
    def test_list_costs_the_same_for_any_number_of_rows(
        self, admin_client: Client, count_queries: Any, count: int
    ) -> None:
        for number in range(count):
            diagnose(agent(f"a{number}"), code="not_approved")
            ModuleRule(pattern=f"default/a{number}", effect=Effect.DENY).save()
        assert count_queries(lambda: admin_client.get(RULES)) == 13

    def test_page_says_whether_it_is_locked_and_what_waits(self, admin_client: Client) -> None:
        diagnose(agent("newcomer", State.BROKEN), code="not_approved")
        ModulePolicy(pk=ModulePolicy.ROW, locked=True, denied_imports=["ctypes"]).save()
        text = words(admin_client.get(RULES).content)
        assert "Locked Only approved content is loaded . Denied imports: ctypes ." in text.replace(
            " loaded.", " loaded ."
        )
        assert "Waiting for an approval: default/newcomer" in text
        assert "they are no sandbox for what is" in text


class TestPolicy:
    URL = f"{POLICY}1/change/"

    def test_is_one_page_even_before_anything_is_set(self, admin_client: Client) -> None:
        assert admin_client.get(POLICY, follow=True).redirect_chain == [(self.URL, 302)]
        assert admin_client.get(f"{POLICY}add/").status_code == 403
        assert not ModulePolicy.objects.exists()

    def test_locks_and_approves_what_serves_in_one_step(
        self, admin_client: Client, admin_user: Any, tmp_path: Path
    ) -> None:
        serving = agent("serving", digest=A)
        version(serving, A)
        agent("twin", digest=A, folder_id=serving.folder_id, folder=serving.folder)
        agent("broken", State.BROKEN)
        agent("lost", digest=B, folder=str(tmp_path / "nowhere"))
        form = {"locked": "on", "approve_serving": "on", "denied_imports": ""}
        text = words(admin_client.post(self.URL, form, follow=True).content)
        assert "1 version approved." in text
        assert f"Not approved: default/lost: {tmp_path}/nowhere does not hold version {B[:12]}" in text
        assert ModulePolicy.row().locked
        (approval,) = ApprovedVersion.objects.all()
        assert (approval.folder_id, approval.digest, approval.approved_by) == ("default/serving", A, admin_user)

    def test_saving_without_the_lock_approves_nothing(self, admin_client: Client) -> None:
        version(agent("serving", digest=A), A)
        admin_client.post(self.URL, {"approve_serving": "on", "denied_imports": "ctypes"})
        assert (ModulePolicy.row().denied_imports, ApprovedVersion.objects.count()) == (["ctypes"], 0)

    def test_usual_imports_are_added_to_those_that_stand_there(self, admin_client: Client) -> None:
        admin_client.post(self.URL, {"denied_imports": "requests\nsocket", "add_usual": "on"})
        assert ModulePolicy.row().denied_imports == ["requests", "socket", *(one for one in USUAL if one != "socket")]

    @pytest.mark.parametrize("name", ["os.", "a b", "import os", "os/path", ".tools"])
    def test_what_is_no_module_name_is_refused(self, admin_client: Client, name: str) -> None:
        text = words(admin_client.post(self.URL, {"denied_imports": name}).content)
        assert "is no module&#x27;s name" in text
        assert not ModulePolicy.objects.exists()

    def test_who_may_change_it_but_not_approve_locks_without_approving(self, django_user_model: Any) -> None:
        version(agent("serving", digest=A), A)
        client = staff(django_user_model, "view_modulepolicy", "change_modulepolicy")
        assert "Approve all that serves now" not in client.get(self.URL).content.decode()
        client.post(self.URL, {"locked": "on", "approve_serving": "on", "denied_imports": ""})
        assert (ModulePolicy.row().locked, ApprovedVersion.objects.count()) == (True, 0)

    def test_who_may_only_see_it_sees_it(self, django_user_model: Any) -> None:
        ModulePolicy(pk=ModulePolicy.ROW, denied_imports=["ctypes"]).save()
        client = staff(django_user_model, "view_modulepolicy")
        assert "ctypes" in client.get(self.URL).content.decode()
        assert client.post(self.URL, {"locked": "on", "denied_imports": ""}).status_code == 403


class TestApproving:
    @pytest.fixture
    def row(self, tmp_path: Path) -> DropIn:
        """Serves version A, while its folder holds something else."""
        path = tmp_path / "Weather"
        path.mkdir()
        (path / "agent.py").write_text("new = 1\n")
        ModulePolicy(pk=ModulePolicy.ROW, locked=True).save()
        row = agent("weather", State.STALE, digest=A, disk_digest=self.digest(path), folder=str(path))
        diagnose(row, "It is not approved.", code="not_approved")
        return row

    def digest(self, path: Path) -> str:
        return scan.digest(scan.Folder("default/weather", path, scan.fingerprint(path)))

    def test_page_leads_to_the_review_and_offers_nothing_that_would_pass_it_by(
        self, admin_client: Client, row: DropIn
    ) -> None:
        version(row, A)
        version(row, B)
        ApprovedVersion(folder_id=row.folder_id, digest=A).save()
        html = admin_client.get(f"{LIST}{row.pk}/serving/").content.decode()
        assert f'href="{LIST}{row.pk}/review/"' in html
        assert re.findall(r'aria-label="(Approve [^"]+)"', html) == [f"Approve version {B[:12]}"]
        assert "put-back-rescue" not in html
        assert f"Version {A[:12]} serves" in words(html.encode())

    def test_review_shows_what_differs_and_approves_just_that(
        self, admin_client: Client, admin_user: Any, row: DropIn
    ) -> None:
        text = words(admin_client.get(f"{LIST}{row.pk}/review/").content)
        digest = self.digest(Path(row.folder))
        assert f"The folder holds version {digest[:12]} , 1 file. Nothing of it has been approved yet" in text
        assert "agent.py added @@ -0,0 +1 @@ +new = 1" in text

        page = admin_client.post(f"{LIST}{row.pk}/approve/", {"digest": digest, "note": "T-1"}, follow=True)
        assert f"Version {digest[:12]} is approved; it may serve within about a second." in words(page.content)
        (approval,) = ApprovedVersion.objects.all()
        assert (approval.digest, approval.approved_by, approval.note) == (digest, admin_user, "T-1")
        assert AgentVersion.objects.get().digest == digest
        assert LogEntry.objects.get().change_message == f"Version {digest[:12]} approved."
        assert "This content is approved." in words(admin_client.get(f"{LIST}{row.pk}/review/").content)

    def test_folder_that_changed_since_is_not_approved(self, admin_client: Client, row: DropIn) -> None:
        digest = self.digest(Path(row.folder))
        (Path(row.folder) / "agent.py").write_text("other = 1\n")
        text = words(admin_client.post(f"{LIST}{row.pk}/approve/", {"digest": digest}, follow=True).content)
        assert f"Not approved. {row.folder} does not hold version {digest[:12]} (any more)." in text
        assert not ApprovedVersion.objects.exists()

    def test_needs_a_permission_of_its_own_and_a_post(
        self, admin_client: Client, django_user_model: Any, row: DropIn
    ) -> None:
        client = staff(django_user_model, "view_dropin", "change_dropin")
        assert client.get(f"{LIST}{row.pk}/review/").status_code == 403
        assert client.post(f"{LIST}{row.pk}/approve/", {"digest": A}).status_code == 403
        assert admin_client.get(f"{LIST}{row.pk}/approve/").status_code == 405
        assert "Review and approve" not in client.get(f"{LIST}{row.pk}/serving/").content.decode()

    def test_folder_that_is_not_here_is_told(self, admin_client: Client, row: DropIn) -> None:
        (Path(row.folder) / "agent.py").unlink()
        text = words(admin_client.get(f"{LIST}{row.pk}/review/", follow=True).content)
        assert "contains no agent.py on this machine." in text

    def test_approval_is_listed_and_withdrawn_by_deleting_it(self, admin_client: Client, row: DropIn) -> None:
        approval = ApprovedVersion.objects.create(folder_id=row.folder_id, digest=A, note="T-1")
        assert A[:12] in words(admin_client.get(APPROVALS).content)
        assert admin_client.get(f"{APPROVALS}add/").status_code == 403
        before = ConfigVersion.current()
        admin_client.post(f"{APPROVALS}{approval.pk}/delete/", {"post": "yes"})
        assert not ApprovedVersion.objects.exists()
        assert ConfigVersion.current() > before


def test_denied_agent_says_that_a_rule_keeps_it_out(admin_client: Client) -> None:
    row = agent("weather", State.DENIED)
    text = words(admin_client.get(f"{LIST}{row.pk}/serving/").content)
    assert "Denied A rule keeps it out; nothing serves." in text


def test_lock_of_the_environment_is_shown(admin_client: Client, settings: LazySettings) -> None:
    settings.GATEWAY_AGENT_LOCKED = True
    assert "GATEWAY_AGENT_LOCKED says so" in words(admin_client.get(RULES).content)
