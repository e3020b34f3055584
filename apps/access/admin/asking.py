"""Pages and words that the admins of access share."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse


@dataclass(frozen=True, slots=True)
class Question:
    """`action` is the list's action that goes on when the answer is yes, "" on a page of its own."""

    title: str
    sentence: str
    button: str
    action: str = ""
    form: forms.Form | None = None
    is_dangerous: bool = False


def ask(
    model_admin: "ModelAdmin[Any]", request: HttpRequest, chosen: Sequence[Model], question: Question
) -> HttpResponse:
    """The page that asks before something is done to the rows `chosen`. Its button sends `confirmed`, the form's fields
    and the rows."""
    opts = model_admin.opts
    context = model_admin.admin_site.each_context(request) | {
        "title": question.title,
        "opts": opts,
        "question": question,
        "chosen": chosen,
        "checkbox_name": ACTION_CHECKBOX_NAME,
        "back": reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist"),
    }
    return TemplateResponse(request, "admin/access/ask.html", context)


def tell(request: HttpRequest, count: int, noun: str, what: str) -> None:
    """Such as `3 keys revoked.`, as a warning when there were none."""
    level = messages.SUCCESS if count else messages.WARNING
    messages.add_message(request, level, f"{counted(count, noun)} {what}.")


def counted(count: int, noun: str) -> str:
    return f"{count} {noun if count == 1 else noun + 's'}"
