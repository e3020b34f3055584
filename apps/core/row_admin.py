"""The console's page of settings that are one row."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.admin import ModelAdmin


class ConfigRowAdmin(ModelAdmin):
    """For a ConfigRow: no list, nothing to add or delete, and a page before anything is saved."""

    def changelist_view(self, request: HttpRequest, _extra: dict[str, Any] | None = None) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        return redirect(f"admin:{self.opts.app_label}_{self.opts.model_name}_change", self.model.ROW)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        is_it = object_id == str(self.model.ROW)
        return super().get_object(request, object_id, from_field) or (self.model.row() if is_it else None)

    def has_add_permission(self, _request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: Any = None) -> bool:
        return False
