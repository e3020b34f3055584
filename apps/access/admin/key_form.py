"""The form of an API key: what is typed becomes what the hot path compares."""

# mypy: disable-error-code="misc, type-arg"
# django-unfold ships no types: its classes are Any to mypy. ModelForm takes no argument at run time.

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminPasswordToggleWidget, UnfoldBooleanSwitchWidget

from apps.access import key_checks
from apps.access.models import ApiKey
from apps.core import clock
from apps.core.forms import LinesField
from apps.core.globs import AGENT_GLOB

_ANY = re.compile(r".+")


class ApiKeyForm(forms.ModelForm):
    agents = LinesField(
        initial=["*"],
        required=False,
        pattern=AGENT_GLOB,
        wrong="is no glob over agent ids: letters, digits, dots, dashes, slashes and * only.",
        help_text="The agent ids that this key may use, one glob a line: * is any text, as in default/* or *planner*. "
        "Each is a grant of the key's own. None: only what its team, the namespaces and everyone are granted.",
    )
    ip_ranges = LinesField(
        label="Addresses",
        required=False,
        pattern=_ANY,
        wrong="",
        help_text=ApiKey._meta.get_field("ip_ranges").help_text,  # noqa: SLF001  # Django documents it
    )
    origins = LinesField(
        required=False,
        pattern=key_checks.ORIGIN,
        wrong="is no origin: scheme and host, as in https://chat.example.com, a port if it is an unusual one, no path.",
        help_text=ApiKey._meta.get_field("origins").help_text,  # noqa: SLF001  # Django documents it
    )
    identity_secret = forms.CharField(
        label="Secret of signed persons",
        required=False,
        strip=True,
        widget=UnfoldAdminPasswordToggleWidget(attrs={"autocomplete": "new-password"}),
        help_text="The same text as FORWARD_USER_INFO_HEADER_JWT_SECRET of Open WebUI; the command openssl rand "
        "-hex 32 makes one. With it only signed persons count, and headers alone never do. Stored encrypted.",
    )
    clear_identity_secret = forms.BooleanField(
        label="Remove the stored secret", required=False, widget=UnfoldBooleanSwitchWidget()
    )

    class Meta:
        model = ApiKey
        fields = [
            "name", "owner", "team", "may_chat", "may_administer", "ip_ranges", "origins", "trusts_identity_headers",
            "expires_at",
        ]  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["agents"] = self.instance.globs
        if self.instance.encrypted_identity_secret:
            self.fields["identity_secret"].help_text = "One is stored, encrypted. Leave this empty to keep it."

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not (cleaned.get("may_chat") or cleaned.get("may_administer")):
            raise ValidationError(key_checks.NO_SCOPE)
        return cleaned

    def clean_expires_at(self) -> Any:
        ends = self.cleaned_data["expires_at"]
        if ends and self.instance.pk is None and ends <= clock.now():
            raise ValidationError(f"{key_checks.ENDED} Leave both fields empty for one that never ends.")
        return ends

    def clean_ip_ranges(self) -> list[str]:
        ranges: list[str] = self.cleaned_data["ip_ranges"]
        if wrong := [one for one in ranges if not key_checks.is_range(one)]:
            raise ValidationError([key_checks.no_range(one) for one in wrong])
        return ranges

    def clean_origins(self) -> list[str]:
        try:
            return key_checks.as_browsers_send(self.cleaned_data["origins"])
        except ValueError as error:
            raise ValidationError(str(error)) from error

    def clean_identity_secret(self) -> str:
        secret: str = self.cleaned_data["identity_secret"]
        if secret and self.data.get(self.add_prefix("clear_identity_secret")):
            raise ValidationError("Either a new secret or none: leave this empty, or do not remove the stored one.")
        return secret

    def save(self, commit: bool = True) -> ApiKey:
        secret = self.cleaned_data["identity_secret"]
        if secret or self.cleaned_data.get("clear_identity_secret"):
            self.instance.set_identity_secret(secret)
        key: ApiKey = super().save(commit)
        return key
