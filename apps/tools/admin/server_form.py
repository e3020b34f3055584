"""The form of an MCP server: what people type becomes headers, a command and credentials, and secrets stay unseen."""

# mypy: disable-error-code="misc, type-arg"
# django-unfold ships no types: its classes are Any to mypy. ModelForm takes no argument at run time.

import re
import shlex
from typing import Any, Final

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminPasswordToggleWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from apps.core.forms import LinesField
from apps.core.secrets import SecretUnreadable
from apps.tools.checking import problems_with_oauth
from apps.tools.mcp.server import may_start
from apps.tools.models import McpServer, Transport

_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+:\s*[\x21-\x7e][\x20-\x7e]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*")
_TOKEN = re.compile(r"[\x21-\x7e]*")
_ANY = re.compile(r".+")
_OAUTH: Final = ("client_id", "client_secret", "token_url", "issuer", "scope")
_KEPT = "Stored, encrypted. Leave this empty to keep what is there."


def _password(**kwargs: Any) -> forms.CharField:
    widget = UnfoldAdminPasswordToggleWidget(attrs={"autocomplete": "new-password"})
    return forms.CharField(required=False, widget=widget, **kwargs)


def _text(**kwargs: Any) -> forms.CharField:
    return forms.CharField(required=False, widget=UnfoldAdminTextInputWidget(), **kwargs)


def _unseen_lines(**kwargs: Any) -> LinesField:
    widget = UnfoldAdminTextareaWidget(attrs={"rows": 3, "spellcheck": "false", "autocomplete": "off"})
    return LinesField(required=False, widget=widget, **kwargs)


class McpServerForm(forms.ModelForm):
    token = _password(
        label="Bearer token", help_text="Sent in the header Authorization, after the word Bearer. Stored encrypted."
    )
    secret_lines = _unseen_lines(
        label="Other secret headers",
        pattern=_HEADER,
        wrong="is no header: one a line, as in X-Api-Key: abc.",
        help_text="One a line: X-Api-Key: abc. Stored encrypted.",
    )
    allowed_tools = LinesField(
        required=False,
        pattern=_ANY,
        wrong="",
        help_text="Globs over the names that the server lists, one a line: read_*. Empty: all.",
    )
    command_line = _text(
        label="Command",
        help_text="As in a shell, but none runs: npx -y @modelcontextprotocol/server-everything. It is started in the "
        "data folder, as the gateway's user, once by every worker.",
    )
    environment_lines = _unseen_lines(
        label="Environment",
        pattern=_VARIABLE,
        wrong="is no variable: one a line, as in API_KEY=abc.",
        help_text="One a line: API_KEY=abc. Stored encrypted. Besides, it has PATH, HOME and few others.",
    )
    client_id = _text(label="Client id")
    client_secret = _password(label="Client secret", help_text="Stored encrypted.")
    token_url = _text(
        label="Token URL",
        help_text="Where tokens are had: https://login.example.com/oauth2/token. This, or the issuer.",
    )
    issuer = _text(
        label="Issuer",
        help_text="Without a token URL: the only authorization server that gets the secret. The MCP server has to name "
        "it.",
    )
    scope = _text(label="Scope", help_text="Empty: none, or what the server says.")
    clear_secrets = forms.BooleanField(
        label="Remove what is stored encrypted", required=False, widget=UnfoldBooleanSwitchWidget()
    )

    class Meta:
        model = McpServer
        fields = ["slug", "transport", "url", "headers", "enabled", "allowed_tools", "timeout", "max_concurrency"]

    def __init__(self, *args: Any, may_use_processes: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        server: McpServer = self.instance
        self.initial["command_line"] = shlex.join(server.command)
        self._oauth = _readable(server, "oauth")
        for name in _OAUTH:
            if name != "client_secret" and name in self.fields:
                self.initial[name] = self._oauth.get(name, "")
        kept = {
            "token": server.encrypted_headers, "secret_lines": server.encrypted_headers,
            "environment_lines": server.encrypted_environment, "client_secret": server.encrypted_oauth,
        }  # fmt: skip
        for name, stored in kept.items():
            if stored and name in self.fields:
                self.fields[name].help_text = _KEPT
        if not may_use_processes and "transport" in self.fields:
            choices = self.fields["transport"].choices  # type: ignore[attr-defined]  # of a field with choices
            self.fields["transport"].choices = [one for one in choices if one[0] != Transport.STDIO]  # type: ignore[attr-defined]

    def clean_token(self) -> str:
        token: str = self.cleaned_data["token"].strip().removeprefix("Bearer ").strip()
        if not _TOKEN.fullmatch(token):
            raise ValidationError("A token has no spaces, line breaks or accents in it. Copy it again.")
        return token

    def clean_command_line(self) -> str:
        line: str = self.cleaned_data["command_line"]
        try:
            self.instance.command = shlex.split(line)
        except ValueError as error:
            raise ValidationError(f"This cannot be read: {error}. Quote as in a shell.") from error
        return line

    def clean_headers(self) -> dict[str, str]:
        headers = self.cleaned_data["headers"] or {}
        if not (isinstance(headers, dict) and all(isinstance(value, str) for value in headers.values())):
            raise ValidationError('An object of texts: {"Accept-Language": "en"}.')
        return headers

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        is_process = cleaned.get("transport") == Transport.STDIO
        if is_process and self.instance.command and not may_start(self.instance.command):
            self.add_error("command_line", "GATEWAY_MCP_STDIO, which whoever runs the gateway sets, does not allow it.")
        oauth = {name: cleaned.get(name) or "" for name in _OAUTH}
        if any(oauth.values()) and not cleaned.get("clear_secrets"):
            kept = {name: self._oauth.get(name, "") for name in ("client_id", "client_secret") if not oauth[name]}
            for name, sentence in problems_with_oauth(oauth | kept).items():
                self.add_error(name, sentence)
        return cleaned

    def _update_errors(self, errors: Any) -> None:
        if "command" in getattr(errors, "error_dict", {}):  # the model's name for it
            errors.error_dict["command_line"] = errors.error_dict.pop("command")
        super()._update_errors(errors)

    def save_secrets(self) -> None:
        """Put them on the instance, which is not saved."""
        server, given = self.instance, self.cleaned_data
        if given.get("clear_secrets"):
            server.secret_headers, server.environment, server.oauth = {}, {}, {}
            self._oauth = {}
        headers = {name.strip(): value.strip() for name, _, value in _split(given.get("secret_lines"), ":")}
        if given.get("token"):
            headers["Authorization"] = f"Bearer {given['token']}"
        if headers:
            server.secret_headers = {**_readable(server, "secret_headers"), **headers}
        if environment := {name: value for name, _, value in _split(given.get("environment_lines"), "=")}:
            server.environment = {**_readable(server, "environment"), **environment}
        oauth = {name: given.get(name, "") for name in _OAUTH if name in given}
        oauth["client_secret"] = oauth.get("client_secret") or self._oauth.get("client_secret", "")
        if given.get("clear_secrets"):
            return
        if oauth.get("client_id"):
            server.oauth = {name: value for name, value in oauth.items() if value}
        elif "client_id" in given and self._oauth:
            server.oauth = {}


def _readable(server: McpServer, what: str) -> dict[str, str]:
    """Nothing where the secret key is another one: what is entered anew takes its place."""
    try:
        stored: dict[str, str] = getattr(server, what)
    except SecretUnreadable:
        return {}
    return stored


def _split(lines: list[str] | None, at: str) -> list[tuple[str, str, str]]:
    return [line.partition(at) for line in lines or []]
