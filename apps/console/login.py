"""The console's login form, which does not let passwords be guessed quickly."""

# mypy: disable-error-code="misc"
# django-unfold ships no types: its classes are Any to mypy.

from typing import Any

from django.core.exceptions import ValidationError
from unfold.forms import AuthenticationForm

from apps.access.attempts import login_failed, refuse_login
from apps.core.errors import TooManyAttempts


class LoginForm(AuthenticationForm):
    def clean(self) -> Any:
        username = self.cleaned_data.get("username") or ""
        try:
            refuse_login(self.request.META, username)
        except TooManyAttempts as error:  # also with the right password: else it could be told from the wrong ones
            raise ValidationError(error.message, code=error.code) from error
        try:
            return super().clean()
        except ValidationError:
            login_failed(self.request.META, username)
            raise
