"""Access groups: their aliases, and the teams they are granted to."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import OuterRef, Q, QuerySet
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import path
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from saas_litellm.base.admin import Audited, actor
from teams import access
from teams.admin.choosing import ManyChosen, counted
from teams.models import AccessGroup, Alias, ApiKey, Team

TEAMS_A_PAGE = 50


class AccessGroupForm(forms.ModelForm):  # type: ignore[type-arg]
    aliases = forms.ModelMultipleChoiceField(
        Alias.objects.all(),
        required=False,
        widget=ManyChosen(AccessGroup._meta.get_field("aliases"), admin.site),
        help_text="What the group grants. Type to find them.",
    )
    grant_to = forms.ModelMultipleChoiceField(
        Team.objects.all(),
        required=False,
        label="Grant to teams",
        # Any column that points at teams tells the widget where to look them up.
        widget=ManyChosen(ApiKey._meta.get_field("team"), admin.site),
        help_text="They may use the group's aliases from now on, besides the teams that may"
        " already. Type to find them.",
    )

    class Meta:
        model = AccessGroup
        fields = ("name", "is_active", "aliases")


@admin.register(AccessGroup)
class AccessGroupAdmin(Audited, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    form = AccessGroupForm
    fields = ("name", "is_active", "aliases", "grant_to")
    list_display = ("name", "is_active", "alias_count", "team_count")
    list_filter = ("is_active",)
    search_fields = ("name",)
    change_form_outer_after_template = "admin/teams/group_teams.html"
    list_after_template = "admin/teams/no_group.html"

    class Media:
        css = {"all": ("saas/catalog.css",)}
        js = ("saas/catalog.js",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[AccessGroup]:
        found: QuerySet[AccessGroup] = super().get_queryset(request)
        return found.annotate(
            aliases_in=_in_group(AccessGroup.aliases.through),
            teams_with=_in_group(Team.access_groups.through),
        )

    @admin.display(description="Aliases", ordering="aliases_in")
    def alias_count(self, group: Any) -> int:
        return int(group.aliases_in)

    @admin.display(description="Teams", ordering="teams_with")
    def team_count(self, group: Any) -> int:
        return int(group.teams_with)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        may = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        return self.fields if may else self.fields[:-1]

    def get_urls(self) -> list[Any]:
        withdraw = path(
            "<int:group_id>/withdraw/",
            self.admin_site.admin_view(require_POST(self.withdraw)),
            name="teams_accessgroup_withdraw",
        )
        return [withdraw, *super().get_urls()]

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None:
            context |= {"group": obj, **_teams(request, obj)}
            context["may_withdraw"] = self.has_change_permission(request, obj)
        page: HttpResponse = super().render_change_form(request, context, *args, obj=obj, **kwargs)
        return page

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        super().save_related(request, form, formsets, change)
        access.grant(group=form.instance, teams=form.cleaned_data["grant_to"], actor=actor(request))

    def withdraw(self, request: HttpRequest, group_id: int) -> HttpResponse:
        """Take the group from the teams that were chosen; a second click takes nothing more."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        group = get_object_or_404(AccessGroup, pk=group_id)
        chosen = [pk for pk in request.POST.getlist("teams") if pk.isdecimal()]
        gone = access.withdraw(
            group=group,
            teams=Team.objects.filter(pk__in=chosen[:TEAMS_A_PAGE]),
            actor=actor(request),
        )
        text = f"Withdrawn from teams: {gone}." if gone else "No team was chosen."
        self.message_user(request, text, messages.SUCCESS if gone else messages.WARNING)
        return redirect("admin:teams_accessgroup_change", group.pk)


def _teams(request: HttpRequest, group: AccessGroup) -> dict[str, Any]:
    asked = request.GET.get("team", "").strip()
    found = group.teams.select_related("organization").order_by("slug")
    if asked:
        found = found.filter(Q(slug__icontains=asked) | Q(name__icontains=asked))
    page = Paginator(found, TEAMS_A_PAGE).get_page(request.GET.get("page"))
    return {
        "team_page": page,
        # All of them, whatever was searched for.
        "team_total": page.paginator.count if not asked else group.teams.count(),
        "team_asked": asked,
        "team_query": urlencode({"team": asked}) if asked else "",
    }


def _in_group(link: Any) -> Coalesce:
    return counted(link._default_manager.filter(accessgroup=OuterRef("pk")), "accessgroup")
