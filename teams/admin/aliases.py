"""Aliases: the deployments behind them with their prices, and who may use them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Case, Count, Exists, F, OuterRef, QuerySet, When
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.urls import path, reverse
from django.utils.html import format_html
from unfold.admin import ModelAdmin, StackedInline
from unfold.widgets import UnfoldAdminTextInputWidget

from saas_litellm.base import clock
from saas_litellm.base.admin import Audited, actor
from teams import access, catalog, cost_map, price_changes, prices
from teams.admin.choosing import ManyChosen, counted
from teams.admin.deployment_health import is_cooling, state
from teams.admin.price_forms import UNITS
from teams.models import AccessGroup, Alias, Deployment, ProviderCredential, Team, UnitPrice
from teams.prices import BadPrice

# So many teams are named on an alias's page; a link shows all.
NAMED_TEAMS = 12
_NONE = "no price: calls are refused"


class ModelInput(UnfoldAdminTextInputWidget):  # type: ignore[misc] # unfold is untyped
    """A model string, with the priced ones offered as one types (saas/catalog.js)."""

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        given = {
            "list": "model-names",
            "data-suggest": reverse("admin:teams_alias_models"),
            "autocomplete": "off",
            "spellcheck": "false",
        }
        context: dict[str, Any] = super().get_context(name, value, {**given, **(attrs or {})})
        return context


class AliasForm(forms.ModelForm):  # type: ignore[type-arg]
    access_groups = forms.ModelMultipleChoiceField(
        AccessGroup.objects.all(),
        required=False,
        widget=ManyChosen(Team._meta.get_field("access_groups"), admin.site),
        help_text="The teams of these groups may use it. Without a group nobody may.",
    )

    class Meta:
        model = Alias
        fields = "__all__"  # noqa: DJ007 - the fieldsets of the admin name them

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk and "access_groups" in self.fields:
            self.initial["access_groups"] = list(self.instance.access_groups.all())


class Supplies:
    """What the deployments of one alias cost, from where, and how they are: a few queries."""

    def __init__(self, alias: Alias, user: Any) -> None:
        self.alias = alias
        self.may_price = user.has_perm("teams.add_unitprice")
        self.may_test = user.has_perm("teams.change_deployment")

    @cached_property
    def rows(self) -> dict[int, Deployment]:
        found = self.alias.deployments.select_related("health", "credential")
        return {deployment.pk: deployment for deployment in found}

    @cached_property
    def prices(self) -> dict[str, UnitPrice]:
        return prices.current([row.effective_price_key for row in self.rows.values()])

    def shown(self, pk: int) -> str:
        """One deployment's prices with their source, and what can be done about them."""
        deployment = self.rows[pk]
        key = deployment.effective_price_key
        row = self.prices.get(key)
        context = {
            "deployment": deployment,
            "key": key,
            "row": row,
            "alias": self.alias,
            "breaker": state(getattr(deployment, "health", None)),
            "health": getattr(deployment, "health", None),
            "may_price": self.may_price,
            "may_test": self.may_test,
            "foreign": _foreign(deployment),
            "unit": UNITS.get(Alias.Kind(self.alias.kind), "USD per million tokens"),
        }
        try:
            sheet = catalog.usable_prices(row, kind=self.alias.kind)
        except BadPrice as problem:
            context |= {"problem": str(problem), "offered": offered(key)}
        else:
            context["amounts"] = price_changes.amounts(sheet).items()
        return render_to_string("admin/teams/supply.html", context)


class DeploymentInline(StackedInline):  # type: ignore[misc] # unfold is untyped
    model = Deployment
    extra = 0
    ordering = ("priority", "id")
    readonly_fields = ("supply",)
    fieldsets = (
        (
            None,
            {"fields": ("supply", ("model", "credential"), ("priority", "weight"), "is_active")},
        ),
        (
            "Limits, timeout and where its prices stand",
            {
                "classes": ("collapse",),
                "fields": (
                    ("requests_per_minute", "tokens_per_minute"),
                    ("timeout_seconds", "image_tokens"),
                    "price_key",
                ),
            },
        ),
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Deployment]:
        found: QuerySet[Deployment] = super().get_queryset(request)
        return found.select_related("alias")

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        # An inline lives as long as its request.
        self.supplies = Supplies(obj, request.user) if obj is not None else None
        return super().get_formset(request, obj, **kwargs)

    def formfield_for_dbfield(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in {"model", "price_key"}:
            kwargs["widget"] = ModelInput()
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        if db_field.name == "credential" and field is not None:
            # Read once, not once for each row.
            known = ProviderCredential.objects.select_related("organization")
            field.choices = [("", field.empty_label), *((row.pk, str(row)) for row in known)]
        return field

    @admin.display(description="Unit prices")
    def supply(self, deployment: Deployment) -> str:
        if self.supplies is None or deployment.pk is None:
            return "Save: its price is shown here then, or how to set it."
        return self.supplies.shown(deployment.pk)


@admin.register(Alias)
class AliasAdmin(Audited, ModelAdmin):  # type: ignore[misc] # unfold is untyped
    form = AliasForm
    list_display = (
        "name",
        "organization",
        "kind",
        "is_active",
        "deployments_well",
        "priced",
        "groups",
        "description",
    )
    list_filter = ("is_active", "kind", "organization")
    list_select_related = ("organization",)
    search_fields = ("name", "description", "deployments__model")
    autocomplete_fields = ("organization", "context_window_fallback", "content_filter_fallback")
    inlines = (DeploymentInline,)
    change_form_outer_before_template = "admin/teams/alias_reach.html"
    list_after_template = "admin/teams/no_alias.html"
    fieldsets = (
        (None, {"fields": ("name", "kind", "description", "is_active", "access_groups")}),
        (
            "Answers and limits",
            {
                "classes": ("collapse",),
                "fields": (
                    ("default_max_tokens", "max_output_tokens"),
                    "cache_ttl_seconds",
                    ("requests_per_minute", "tokens_per_minute"),
                    "organization",
                ),
            },
        ),
        (
            "Fallbacks",
            {
                "classes": ("collapse",),
                "fields": (("context_window_fallback", "content_filter_fallback"),),
            },
        ),
    )

    class Media:
        css = {"all": ("saas/catalog.css",)}
        js = ("saas/catalog.js",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Alias]:
        found: QuerySet[Alias] = super().get_queryset(request)
        return found.annotate(
            is_unpriced=Exists(_unpriced(OuterRef("pk"))),
            group_count=counted(
                AccessGroup.aliases.through._default_manager.filter(
                    alias=OuterRef("pk"), accessgroup__is_active=True
                ),
                "alias",
            ),
        ).prefetch_related("deployments__health")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Who may only look sees the groups above the form."""
        sets = super().get_fieldsets(request, obj)
        may = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        if may:
            return sets
        (name, options), *others = sets
        fields = tuple(field for field in options["fields"] if field != "access_groups")
        return ((name, {**options, "fields": fields}), *others)

    def get_urls(self) -> list[Any]:
        models = path("models/", self.admin_site.admin_view(self.models), name="teams_alias_models")
        return [models, *super().get_urls()]

    def models(self, request: HttpRequest) -> JsonResponse:
        """Priced models whose name has the words of ``q``, with their prices, as JSON."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        found = cost_map.suggestions(request.GET.get("q", "")[:100])
        rows = [
            {"model": entry.model, "price": price_changes.line(entry.prices)}
            for entry in found
            if entry.prices
        ]
        return JsonResponse({"models": rows})

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        context["model_names"] = sorted(prices.keys_in_use())[:50]
        if obj is not None:
            context |= _reach(obj)
        page: HttpResponse = super().render_change_form(request, context, *args, obj=obj, **kwargs)
        return page

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:  # noqa: FBT001 - Django's
        super().save_related(request, form, formsets, change)
        access.put_in_groups(
            alias=form.instance, groups=form.cleaned_data["access_groups"], actor=actor(request)
        )

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: Any = None) -> Any:
        """On to the alias's own page, which says whether each deployment has a price."""
        if "_addanother" not in request.POST and "_popup" not in request.POST:
            sent = request.POST.copy()
            sent["_continue"] = "1"
            request.POST = sent  # type: ignore[assignment]
        answer: HttpResponse = super().response_add(request, obj, post_url_continue)
        return answer

    @admin.display(description="Deployments")
    def deployments_well(self, alias: Alias) -> str:
        active = [row for row in alias.deployments.all() if row.is_active]
        cooling = sum(is_cooling(getattr(row, "health", None)) for row in active)
        return f"{len(active)}, {cooling} cooling down" if cooling else str(len(active))

    @admin.display(description="Prices", ordering="is_unpriced")
    def priced(self, alias: Any) -> str:
        if alias.is_unpriced:
            return format_html('<span class="catalog-bad">{}</span>', _NONE)
        return "known" if any(row.is_active for row in alias.deployments.all()) else "–"

    @admin.display(description="Access groups", ordering="group_count")
    def groups(self, alias: Any) -> str:
        return str(alias.group_count) if alias.group_count else "none: nobody may use it"


def offered(key: str) -> list[dict[str, Any]]:
    """What litellm's map has for a model: its own price, or those of models of a like name."""
    found = {entry.model: entry for entry in cost_map.suggestions(key, limit=3)}
    chosen = [found[key]] if key in found else list(found.values())
    return [
        {
            "model": entry.model,
            "price": price_changes.line(entry.prices),
            "is_it": entry.model == key,
        }
        for entry in chosen
        if entry.prices
    ]


def _unpriced(alias: OuterRef) -> QuerySet[Deployment]:
    known = UnitPrice.objects.filter(price_key=OuterRef("key"), effective_from__lte=clock.now())
    return (
        Deployment.objects.filter(alias=alias, is_active=True)
        .annotate(key=Case(When(price_key="", then=F("model")), default=F("price_key")))
        .filter(~Exists(known))
    )


def _reach(alias: Alias) -> dict[str, Any]:
    """Who may use it."""
    teams = access.teams_reaching(alias)
    return {
        "alias": alias,
        "groups": alias.access_groups.annotate(team_count=Count("teams")),
        "team_count": teams.count(),
        "teams": teams.order_by("slug")[:NAMED_TEAMS],
    }


def _foreign(deployment: Deployment) -> str:
    """The provider that its credential is of, when its model string begins with another's name."""
    provider = deployment.credential.provider if deployment.credential else ""
    return "" if deployment.model.split("/", maxsplit=1)[0] == provider else provider
