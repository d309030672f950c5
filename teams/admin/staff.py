"""People and their roles: changed through the domain's guards, never beyond one's own rights."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from saas_litellm.base import audit
from saas_litellm.base.admin import Audited, RefusalsShown, actor
from teams import roles, second_factor, staff
from teams.admin.choosing import Ticked
from teams.models import User

admin.site.unregister(Group)


@admin.register(Group)
class GroupAdmin(RefusalsShown, Ticked, Audited, DjangoGroupAdmin, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    """Groups of one's own beside the built-in roles, which only look at."""

    list_display = ("name", "about")
    filter_horizontal = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        # A permission's name tells what it is of.
        found: QuerySet[Group] = super().get_queryset(request)
        return found.prefetch_related("permissions__content_type")

    @admin.display(description="")
    def about(self, group: Group) -> str:
        role = roles.ROLES.get(group.name)
        return role.about if role else "a group of your own"

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return _is_open(request, obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        return _is_open(request, obj) and super().has_delete_permission(request, obj)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        super().save_related(request, form, formsets, change)
        staff.require_within(staff.rights_in(form.instance), _own_rights(request))


def _is_open(request: HttpRequest, group: Group | None) -> bool:
    mine = _own_rights(request)
    return group is None or (
        group.name not in roles.ROLES and staff.is_within(staff.rights_in(group), mine)
    )


def _own_rights(request: Any) -> staff.Rights:
    """Looked up once a request, before it changes anything: it may give to who sends it."""
    if not hasattr(request, "own_rights"):
        request.own_rights = staff.rights_of(request.user)
    return request.own_rights  # type: ignore[no-any-return]


class OwnerStays:
    """Whatever a page of people changes, an owner is left."""

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        # A page that is only looked at must not wait for those that write.
        with staff.an_owner_stays() if request.method == "POST" else nullcontext():
            return super().changeform_view(request, *args, **kwargs)  # type: ignore[misc]

    def delete_model(self, request: HttpRequest, obj: User) -> None:
        with staff.an_owner_stays():
            super().delete_model(request, obj)  # type: ignore[misc]

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        with staff.an_owner_stays():
            super().delete_queryset(request, queryset)  # type: ignore[misc]


@admin.register(User)
class UserAdmin(RefusalsShown, Ticked, OwnerStays, Audited, DjangoUserAdmin, ModelAdmin):  # type: ignore[misc, type-arg] # unfold is untyped
    """Rights come from groups alone: a right of one person's own would be seen by nobody."""

    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    list_display = ("username", "email", "roles", "is_staff", "is_active", "last_login")
    fieldsets = (
        (None, {"fields": ("username", "password")}),
        ("Person", {"fields": ("first_name", "last_name", "email")}),
        ("Rights", {"fields": ("is_active", "is_staff", "is_superuser", "groups")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = (
        (None, {"fields": ("username", "usable_password", "password1", "password2")}),
        ("Rights", {"fields": ("is_staff", "groups")}),
    )
    filter_horizontal = ()
    readonly_fields = ("last_login", "date_joined")
    actions = ("reset_second_factor",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[User]:
        found: QuerySet[User] = super().get_queryset(request)
        return found.prefetch_related("groups")

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        fixed = super().get_readonly_fields(request, obj)
        return fixed if _is_owner(request) else (*fixed, "is_superuser")

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return _may_touch(request, obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return _may_touch(request, obj) and super().has_delete_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: User, form: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        is_let_in = change and obj.is_staff and "is_staff" in form.changed_data
        if is_let_in:
            # What a team's member chose, and may share, opens no admin; their sessions end, too.
            obj.set_unusable_password()
        super().save_model(request, obj, form, change)
        if is_let_in:
            text = (
                f"{obj} is an operator now and has no password: the old one was chosen for the"
                " teams' pages. Set a new one by the link beside the password below, and hand it"
                " over."
            )
            self.message_user(request, text, messages.WARNING)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        super().save_related(request, form, formsets, change)
        staff.require_within(staff.rights_of(form.instance), _own_rights(request))

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> Any:  # noqa: A002 - Django's
        answer = super().user_change_password(request, id, form_url)
        if request.method == "POST" and answer.status_code == 302:
            user = User.objects.get(pk=id)
            audit.record(actor=actor(request), action="user.password", target=f"user:{user}")
        return answer

    @admin.action(description="Reset the second factor", permissions=["change"])
    def reset_second_factor(self, request: HttpRequest, queryset: QuerySet[User]) -> None:
        for user in queryset:
            if user == request.user or not _may_touch(request, user):
                text = f"{user}: your own on its own page, and nobody's beyond your rights."
                self.message_user(request, text, messages.ERROR)
                continue
            had = second_factor.reset(user=user, actor=actor(request))
            said = "has no second factor any more" if had else "had no second factor"
            self.message_user(request, f"{user} {said}.", messages.SUCCESS)

    @admin.display(description="Roles")
    def roles(self, user: User) -> str:
        named = [group.name for group in user.groups.all()]
        return ", ".join([*named, *(["superuser"] if user.is_superuser else [])])


def _is_owner(request: HttpRequest) -> bool:
    return isinstance(request.user, User) and staff.is_owner(request.user)


def _may_touch(request: HttpRequest, user: User | None) -> bool:
    mine = _own_rights(request)
    return user is None or staff.is_within(staff.rights_of(user), mine)
