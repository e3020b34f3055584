"""Keys of another gateway by their digests: the command, and the upload in the admin."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client

from apps.access.import_keys import COLUMNS
from apps.access.keys import digest, find_key, issue_key
from apps.access.models import ApiKey, Grant, Team

UPLOAD = "/admin/access/apikey/import_keys/"
HEADER = ",".join(COLUMNS)

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """Imports a text; returns what was said on both streams."""

    def command(text: str, *options: str) -> tuple[str, str]:
        file = tmp_path / "keys"
        file.write_text(text, encoding="utf-8")
        out, err = StringIO(), StringIO()
        call_command("import_keys", str(file), *options, stdout=out, stderr=err)
        return out.getvalue(), err.getvalue()

    return command


def csv_line(name: str = "Old", key: str = "a key of old", **cells: str) -> str:
    given = {"name": name, "digest": digest(key), **cells}
    return ",".join(given.get(column, "") for column in COLUMNS)


class TestCommand:
    def test_key_of_old_authenticates_with_what_the_line_says(self, run: Any) -> None:
        team = Team.objects.create(name="Support")
        line = csv_line(
            prefix="sk-old", owner="ada@example.com", team="Support", scopes="chat admin", agents="default/* labs/*",
            expires_at="2099-01-31T12:00:00Z",
        )  # fmt: skip
        assert run(f"{HEADER}\n{line}\n") == ("1 key made.\n", "")
        known = find_key("a key of old")
        assert known is not None
        assert (known.name, known.owner, known.team_id) == ("Old", "ada@example.com", team.pk)
        assert (known.may_chat, known.may_administer) == (True, True)
        key = ApiKey.objects.get()
        assert (key.prefix, sorted(key.globs)) == ("sk-old", ["default/*", "labs/*"])
        assert str(key.expires_at) == "2099-01-31 12:00:00+00:00"

    def test_empty_cells_grant_nothing_and_chat_is_the_usual_scope(self, run: Any) -> None:
        run(f"{HEADER}\n{csv_line()}\n")
        key = ApiKey.objects.get()
        assert (key.may_chat, key.may_administer, key.expires_at, key.globs) == (True, False, None, [])

    def test_json_lines_are_the_same(self, run: Any) -> None:
        members = {"name": "Old", "digest": digest("a key of old").upper(), "scopes": ["admin"], "agents": ["*"]}
        assert run(f"{json.dumps(members)}\n\n") == ("1 key made.\n", "")
        known = find_key("a key of old")
        assert known is not None
        assert (known.may_chat, known.may_administer) == (False, True)
        assert Grant.objects.get().agents == "*"

    def test_known_digest_is_skipped_and_said(self, run: Any) -> None:
        _, credential = issue_key("here")
        text = f"{HEADER}\n{csv_line('known', credential)}\n{csv_line('new', 'another key')}\n"
        assert run(text) == ("1 key made.\n", "Skipped “known”: a key with this digest is here already.\n")
        assert run(text)[0] == "0 keys made.\n"
        assert sorted(ApiKey.objects.values_list("name", flat=True)) == ["here", "new"]

    def test_dry_run_says_it_and_makes_nothing(self, run: Any) -> None:
        assert run(f"{HEADER}\n{csv_line()}\n", "--dry-run") == ("1 key would be made.\n", "")
        assert not ApiKey.objects.exists()

    def test_spreadsheets_mark_and_quotes_are_read(self, run: Any) -> None:
        assert run(f'\ufeffname,digest\n"Old, but good",{digest("k" * 20)}\n')[0] == "1 key made.\n"
        assert ApiKey.objects.get().name == "Old, but good"

    @pytest.mark.parametrize(
        ("line", "remark"),
        [
            (csv_line(name=""), "it has no name. Say who or what uses the key."),
            (csv_line(name="x" * 101), "the name has 101 characters. Shorten it to 100."),
            (
                "Old,sk-plain-key",
                "the digest is not the key's SHA-256 in 64 hexadecimal digits. Never put the key itself here.",
            ),
            (csv_line(team="Nobody"), "there is no team “Nobody”. Add it first, or leave the team empty."),
            (csv_line(scopes="chat root"), "there is no scope “root”. Write chat, admin or both."),
            (csv_line(agents="!labs"), "“!labs” is no glob over agent ids. Write such as default/* or *planner*."),
            (
                csv_line(expires_at="soon"),
                "“soon” is no instant. Write such as 2027-01-31T12:00:00Z, or nothing for no end.",
            ),
            (
                csv_line(expires_at="2027-13-01T00:00:00Z"),
                "“2027-13-01T00:00:00Z” is no instant. Write such as 2027-01-31T12:00:00Z, or nothing for no end.",
            ),
            (
                f"{csv_line()},x,y",
                "it has more cells than there are columns. Put quotes around a cell with a comma in it.",
            ),
            (csv_line(key="good"), "it has the digest of line 2. Take one of the two out."),
        ],
    )
    def test_bad_line_is_told_with_its_number_and_nothing_is_made(self, run: Any, line: str, remark: str) -> None:
        with pytest.raises(CommandError) as error:
            run(f"{HEADER}\n{csv_line('good', 'good')}\n{line}\n")
        assert str(error.value) == f"Line 3: {remark}\nNothing was imported. Mend these lines and try again."
        assert not ApiKey.objects.exists()

    def test_every_bad_line_is_told(self, run: Any) -> None:
        with pytest.raises(CommandError, match=r"(?s)Line 2: .*Line 3: "):
            run('{"name": "a"}\n[1]\n{not json\n')

    @pytest.mark.parametrize("text", ["", HEADER, "\n\n"])
    def test_file_without_keys_names_the_columns(self, run: Any, text: str) -> None:
        with pytest.raises(CommandError, match=r"There is no key in it\. The first line names the columns: name,"):
            run(text)

    def test_unknown_column_is_told(self, run: Any) -> None:
        with pytest.raises(CommandError, match=r"there is no column “secret”. The columns are name, digest"):
            run("name,secret\nOld,x\n")

    def test_file_that_cannot_be_read_is_told(self, tmp_path: Path) -> None:
        with pytest.raises(CommandError, match="The file cannot be read"):
            call_command("import_keys", str(tmp_path / "missing"))


class TestUpload:
    def send(self, client: Client, text: str, **fields: str) -> Any:
        file = SimpleUploadedFile("keys.csv", text.encode())
        return client.post(UPLOAD, {"file": file, **fields}, follow=True)

    def test_imports_and_says_how_many(self, admin_client: Client) -> None:
        page = self.send(admin_client, f"{HEADER}\n{csv_line()}\n").content.decode()
        assert "1 key made." in page
        assert str(ApiKey.objects.get().created_by) == "admin"

    def test_bad_lines_are_beside_the_field(self, admin_client: Client) -> None:
        response = self.send(admin_client, f"{HEADER}\n{csv_line(name='')}\n{csv_line(team='Nobody')}\n")
        assert response.context["form"].errors["file"] == [
            "Line 2: it has no name. Say who or what uses the key.",
            "Line 3: there is no team “Nobody”. Add it first, or leave the team empty.",
        ]
        assert not ApiKey.objects.exists()

    def test_dry_run_and_skipped_ones_are_said(self, admin_client: Client) -> None:
        _, credential = issue_key("here")
        page = self.send(admin_client, f"{HEADER}\n{csv_line('known', credential)}\n{csv_line()}", dry_run="on")
        assert [str(message) for message in page.context["messages"]] == [
            "Skipped, because their digest is here already: known.",
            "1 key would be made.",
        ]
        assert ApiKey.objects.count() == 1

    def test_list_leads_to_it(self, admin_client: Client) -> None:
        assert f'href="{UPLOAD}"' in admin_client.get("/admin/access/apikey/").content.decode()
        assert "Only say what would be made" in admin_client.get(UPLOAD).content.decode()
