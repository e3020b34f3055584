"""The form of an LLM server: its secret goes in and never out, and its kind suggests the rest."""

# mypy: disable-error-code="misc, type-arg"
# django-unfold ships no types: its classes are Any to mypy. ModelForm takes no argument at run time.

import json
import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminPasswordToggleWidget, UnfoldAdminSelectWidget, UnfoldBooleanSwitchWidget

from apps.core.forms import SuggestingInput
from apps.upstreams.base_url import mistake, tidied
from apps.upstreams.detect import PRESETS
from apps.upstreams.models import Kind, Upstream

USUAL_URLS = {
    Kind.OPENAI: "https://api.openai.com/v1",
    Kind.OLLAMA: "http://127.0.0.1:11434/v1",
    Kind.LM_STUDIO: "http://127.0.0.1:1234/v1",
    Kind.VLLM: "http://127.0.0.1:8000/v1",
    Kind.LLAMA_CPP: "http://127.0.0.1:8080/v1",
}
_SECRET = re.compile(r"[\x21-\x7e]*")  # what an HTTP header carries


class UpstreamForm(forms.ModelForm):
    new_secret = forms.CharField(  # not `secret`: to who may only look, Django shows the model's property of that name
        label="API key of the server",
        required=False,
        widget=UnfoldAdminPasswordToggleWidget(attrs={"autocomplete": "new-password"}),
        help_text="Stored encrypted. Local servers want none.",
    )
    clear_secret = forms.BooleanField(
        label="Remove the stored API key", required=False, widget=UnfoldBooleanSwitchWidget()
    )

    class Meta:
        model = Upstream
        exclude = ["encrypted_secret"]  # noqa: DJ006  # fieldsets choose; this one is behind `new_secret`
        widgets = {
            "default_model": SuggestingInput(),
            "kind": UnfoldAdminSelectWidget(
                attrs={"data-presets": json.dumps(PRESETS, default=dict), "data-usual-urls": json.dumps(USUAL_URLS)}
            ),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        upstream: Upstream = self.instance
        if upstream._state.adding:  # noqa: SLF001  # how Django names it
            for switch, value in PRESETS[Kind.OTHER].items():
                self.initial.setdefault(switch, value)
            return
        if "default_model" not in self.fields:  # of who may only look, there is nothing to fill in
            return
        self.fields["default_model"].widget.suggestions = tuple(upstream.models.values_list("name", flat=True))
        if upstream.encrypted_secret:
            self.fields["new_secret"].help_text = "One is stored, encrypted. Leave this empty to keep it."
        if upstream.is_default:
            self.fields["is_default"].disabled = True
            self.fields["is_default"].help_text = "To change it, make another upstream the default."

    def clean_new_secret(self) -> str:
        secret: str = self.cleaned_data["new_secret"].strip()
        if not _SECRET.fullmatch(secret):
            raise ValidationError("An API key has no spaces, line breaks or accents in it. Copy it again.")
        return secret

    def clean_base_url(self) -> str:
        base_url: str = self.cleaned_data["base_url"].strip()
        if wrong := mistake(base_url):
            raise ValidationError(wrong)
        return tidied(base_url)

    def _get_validation_exclusions(self) -> set[str]:
        # Saving as the default takes it from the one that was, so that there is no second one to refuse.
        exclusions: set[str] = super()._get_validation_exclusions()
        return exclusions | {"is_default"}
