"""Users and groups in the console's look, and the site's own words. The pages of access register themselves."""

# mypy: disable-error-code="misc, type-arg"
# django-unfold ships no types: its classes are Any to mypy.

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from apps.console import changes, errors, recording  # noqa: F401  # register their pages
from apps.console.access import denials, overrides, rules, settings  # noqa: F401  # register their pages

admin.site.index_title = "Dashboard"
admin.site.unregister([User, Group])


@admin.register(User)
class UserAdmin(DjangoUserAdmin, ModelAdmin):
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_filter_sheet = False
    filter_horizontal = ()  # its two boxes are wider than the page


@admin.register(Group)
class GroupAdmin(DjangoGroupAdmin, ModelAdmin):
    filter_horizontal = ()
    empty_title = "No groups"
    empty_text = "A group gives several users the same permissions in this console."
