"""Import from an OpenAPI document: read it, choose among its operations, make tools of them."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

import re
from typing import Any, Final

from asgiref.sync import async_to_sync
from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import (
    UnfoldAdminFileFieldWidget,
    UnfoldAdminRadioSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanSwitchWidget,
)

from apps.tools import http, openapi
from apps.tools.admin.tool_form import SecretHeadersField
from apps.tools.models import Tool
from apps.tools.openapi import NotImportable, Operation
from apps.tools.template import origin, problem_with_url
from apps.tools.tool import CallFailed

FIRST: Final = ("url", "file", "text", "base_url", "name_prefix", "allow_private_hosts")  # fields of the page that asks
SECOND: Final = ("secret_headers", "existing")  # and of the one that lists the operations
_FETCH_SECONDS: Final = 20.0


class DocumentForm(forms.Form):
    """The document comes from one of three places; the page carries it along as `text` from then on."""

    url = forms.CharField(
        label="URL of the document",
        required=False,
        widget=UnfoldAdminTextInputWidget(attrs={"placeholder": "https://api.example.com/openapi.json"}),
    )
    file = forms.FileField(label="Or a file", required=False, widget=UnfoldAdminFileFieldWidget())
    text = forms.CharField(
        label="Or the document itself",
        required=False,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 6, "spellcheck": "false"}),
        help_text="OpenAPI 3.0 or 3.1, in JSON or YAML.",
    )
    base_url = forms.CharField(
        label="Base URL",
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Where the API is, such as https://api.example.com/v1. Empty: what the document says.",
    )
    name_prefix = forms.RegexField(
        r"^[a-zA-Z0-9_-]{0,32}$",
        label="Prefix of the names",
        required=False,
        widget=UnfoldAdminTextInputWidget(),
        help_text="Such as crm_; the rest is the operationId.",
    )
    secret_headers = SecretHeadersField(
        label="Secret headers of the new tools", help_text="One a line: Authorization: Bearer abc. Stored encrypted."
    )
    allow_private_hosts = forms.BooleanField(
        label="The API is in a private network or on this machine",
        required=False,
        widget=UnfoldBooleanSwitchWidget(),
    )
    existing = forms.ChoiceField(
        label="Tools that are there already",
        choices=[("skip", "stay as they are"), ("update", "are made anew from the document")],
        initial="skip",
        required=False,  # asked for when the operations are listed
        widget=UnfoldAdminRadioSelectWidget(),
    )

    def clean_url(self) -> str:
        url: str = self.cleaned_data["url"].strip()
        if url and (problem_with_url(url) or "{" in url):
            raise ValidationError("The URL of a document looks like https://api.example.com/openapi.json.")
        return url

    def clean_base_url(self) -> str:
        base_url: str = self.cleaned_data["base_url"].strip()
        if base_url and problem_with_url(base_url):
            raise ValidationError("A base URL looks like https://api.example.com/v1.")
        return base_url

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors:
            cleaned["text"] = self._document(cleaned)
            cleaned["operations"] = self._operations(cleaned)
        return cleaned

    def _document(self, cleaned: dict[str, Any]) -> str:
        if cleaned["text"]:
            return str(cleaned["text"])
        if cleaned["file"]:
            try:
                return str(cleaned["file"].read(openapi.MOST_BYTES + 1).decode())
            except UnicodeDecodeError as error:
                raise ValidationError({"file": "This is no text in UTF-8."}) from error
        if cleaned["url"]:
            return _fetched(cleaned["url"], allow_private_hosts=cleaned["allow_private_hosts"])
        raise ValidationError("Name the URL of the document, choose a file, or paste it.")

    def _operations(self, cleaned: dict[str, Any]) -> list[Operation]:
        base_url = cleaned["base_url"]
        try:
            found = openapi.read(cleaned["text"], prefix=cleaned["name_prefix"], base_url=base_url)
            if cleaned["url"] and not base_url and all(_lacks_host(one) for one in found):
                # A relative address is relative to where the document lies: OpenAPI 3.1, 4.8.5.
                return openapi.read(cleaned["text"], prefix=cleaned["name_prefix"], base_url=origin(cleaned["url"]))
        except NotImportable as error:
            raise ValidationError(str(error)) from error
        return found


def _lacks_host(operation: Operation) -> bool:
    return "is not complete" in operation.problem


def _fetched(url: str, *, allow_private_hosts: bool) -> str:
    try:
        return async_to_sync(http.fetch_text)(
            url, most_bytes=openapi.MOST_BYTES, seconds=_FETCH_SECONDS, allow_private_hosts=allow_private_hosts
        )
    except CallFailed as failed:
        raise ValidationError({"url": f"The document could not be read: {failed.message}"}) from failed


def listed(operations: list[Operation]) -> list[dict[str, Any]]:
    """As the page shows them: with whether a tool of the name is there."""
    there = set(Tool.objects.filter(name__in=[one.name for one in operations]).values_list("name", flat=True))
    return [
        {"operation": one, "is_there": one.name in there, "arguments": ", ".join(one.parameters.get("properties", ()))}
        for one in operations
    ]


def chosen(operations: list[Operation], names: list[str]) -> list[Operation]:
    wanted = {name for name in names if re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)}
    return [one for one in operations if one.name in wanted]
