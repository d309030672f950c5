"""What was read of a proxy, made here: all of it or nothing, and what is there already stays."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_DOWN
from itertools import chain

from django.db import transaction
from django.db.models import Max
from django.utils.text import slugify

from billing import budgets, plans
from billing.models import Budget
from saas_litellm.base import clock, shown
from saas_litellm.base.money import MAX_AMOUNT, from_nano
from saas_litellm.base.refusals import Refusal
from saas_litellm.proxy_import.config import Config, Key, Model
from saas_litellm.proxy_import.database import ApiKey, Books, Terms
from teams import access, cost_map, credentials, directory, keys, prices
from teams.keys import KeyLimits
from teams.models import AccessGroup, Alias, Deployment, Organization, ProviderCredential, Team
from teams.models import ApiKey as OwnKey
from teams.prices import UnitPrices

# The organization of teams that had none, and the group of models that everybody had.
HOME = "litellm-proxy"
SOURCE = "LiteLLM proxy"
_EVERYTHING = {"all-proxy-models", "all-team-models", "*"}
_PERIODS = {
    "1d": Budget.Period.DAY,
    "24h": Budget.Period.DAY,
    "7d": Budget.Period.WEEK,
    "1w": Budget.Period.WEEK,
    "30d": Budget.Period.MONTH,
    "31d": Budget.Period.MONTH,
    "1mo": Budget.Period.MONTH,
    "": Budget.Period.TOTAL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A key made in place of one of the proxy's; ``secret`` exists nowhere else."""

    team: str
    name: str
    secret: str = field(repr=False)


@dataclass(slots=True, kw_only=True)
class Report:
    """Line by line: what was made, what was there, what was changed on the way, what was left out."""

    made: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    issued: list[Issued] = field(default_factory=list)


def carry(
    config: Config, books: Books, *, actor: str, is_issuing_keys: bool = False, is_dry: bool = False
) -> Report:
    """Make it in one transaction; ``is_dry`` takes it back and only tells.

    Raises a Refusal where the platform would not take something, and then nothing is made.
    """
    carrier = _Carrier(actor)
    with transaction.atomic():
        carrier.models(config)
        carrier.customers(books, is_issuing_keys=is_issuing_keys)
        carrier.report.left_out += [*config.left_out, *books.left_out]
        if is_dry:
            transaction.set_rollback(True)
            carrier.report.issued.clear()
    return carrier.report


class _Carrier:
    def __init__(self, actor: str) -> None:
        self.actor, self.report = actor, Report()
        self.aliases: dict[str, Alias] = {}
        self.groups: dict[str, AccessGroup] = {}
        self.credentials: dict[Key, ProviderCredential] = {}

    # --- Models ---------------------------------------------------------------------------------

    def models(self, config: Config) -> None:
        by_name: dict[str, list[Model]] = {}
        for model in config.models:
            by_name.setdefault(model.name, []).append(model)
        fresh = {name: models for name, models in by_name.items() if self._alias(name, models)}
        for name in (name for name in by_name if name not in fresh):
            falling_back = (by_name.get(other, []) for other in config.fallbacks.get(name, []))
            meant = [*by_name[name], *chain.from_iterable(falling_back)]
            self._complete(self.aliases[name], meant)
        for name, models in fresh.items():
            for model in models:
                self._deploy(self.aliases[name], model, priority=model.order)
        for name, others in config.fallbacks.items():
            if name in fresh:
                self._fall_back(name, [(other, by_name.get(other, [])) for other in others])
        self._turn_to(config.context_window_fallbacks, "context_window_fallback", fresh)
        self._turn_to(config.content_policy_fallbacks, "content_filter_fallback", fresh)
        everybody = self._group(HOME) if by_name else None
        for name, models in fresh.items():
            named = [self._group(group) for model in models for group in model.groups]
            chosen = [*named, *([everybody] if everybody else [])]
            access.put_in_groups(alias=self.aliases[name], groups=chosen, actor=self.actor)
        used: dict[str, UnitPrices | None] = {}
        for model in (model for models in fresh.values() for model in models):
            told = used.setdefault(model.model, model.prices)
            if model.prices not in (None, told):
                self.report.left_out.append(f"a second price of {model.model}, of {model.name}")
            used[model.model] = told or model.prices
        self._price(used)

    def _alias(self, name: str, models: list[Model]) -> bool:
        """Whether it was made now."""
        slug = self._slug("alias", name, separator="-")
        found = Alias.objects.filter(name=slug, organization=None).first()
        self.aliases[name] = found or Alias.objects.create(name=slug, kind=models[0].kind)
        if found:
            self.report.there.append(f"alias {slug}: left as it is")
        else:
            self.report.made.append(f"alias {slug}, {shown.counted(len(models), 'deployment')}")
        return found is None

    def _deploy(self, alias: Alias, model: Model, *, priority: int) -> None:
        Deployment.objects.create(
            alias=alias,
            model=model.model,
            credential=self._credential(model.key) if model.key else None,
            priority=priority,
            weight=model.weight,
            timeout_seconds=model.timeout_seconds,
            requests_per_minute=model.requests_per_minute,
            tokens_per_minute=model.tokens_per_minute,
        )

    def _complete(self, alias: Alias, models: Sequence[Model]) -> None:
        """What was made before its key was known gets the credential now."""
        without = alias.deployments.filter(credential=None).order_by("priority", "pk")
        for model in models:
            found = without.filter(model=model.model).first()
            if found and model.key:
                found.credential = self._credential(model.key)
                found.save(update_fields=["credential"])
                self.report.changed.append(f"alias {alias}: {model.model} has its credential now")

    def _credential(self, key: Key) -> ProviderCredential:
        if key not in self.credentials:
            name = slugify(key.provider) or "provider"
            taken = set(ProviderCredential.objects.values_list("name", flat=True))
            free = next(
                tried
                for tried in (name, *(f"{name}-{number}" for number in range(2, 10_000)))
                if tried not in taken
            )
            self.credentials[key] = credentials.save(
                name=free,
                api_key=key.secret or "",
                api_base=key.api_base,
                extra=dict(key.settings),
                provider=key.provider,
                actor=self.actor,
            )
            self.report.made.append(f"credential {free}, {key.api_base or key.provider}")
        return self.credentials[key]

    def _fall_back(self, name: str, others: Sequence[tuple[str, list[Model]]]) -> None:
        """A fallback is the other alias's deployments, of a later priority."""
        alias = self.aliases[name]
        for other, models in others:
            if not models:
                self.report.left_out.append(f"fallback of {name}: there is no model {other}")
            last = alias.deployments.aggregate(last=Max("priority"))["last"] or 0
            for model in models:
                self._deploy(alias, model, priority=last + 1)
            if models:
                self.report.changed.append(
                    f"fallback of {alias} to {other}: deployments of priority {last + 1}"
                )

    def _turn_to(
        self, fallbacks: dict[str, list[str]], column: str, fresh: dict[str, list[Model]]
    ) -> None:
        for name, others in fallbacks.items():
            if name not in fresh:
                continue
            known = [other for other in others if other in self.aliases]
            if known:
                Alias.objects.filter(pk=self.aliases[name].pk).update(
                    **{column: self.aliases[known[0]]}
                )
            for other in others:
                if other not in known[:1]:
                    self.report.left_out.append(f"{column} of {name}: one is kept, {other} is not")

    def _price(self, used: dict[str, UnitPrices | None]) -> None:
        standing = prices.current(list(used))
        listed = {entry.model: entry.prices for entry in _bundled()}
        told = {model: sheet for model, sheet in used.items() if sheet}
        seeded = {
            model: sheet
            for model in used
            if model not in told and model not in standing and (sheet := listed.get(model))
        }
        prices.import_sheets(told, source=SOURCE, actor=self.actor)
        prices.import_sheets(seeded, source=cost_map.SOURCE, actor=self.actor)
        for model in sorted(told | seeded):
            self.report.made.append(f"price of {model}")
        for model in sorted(set(used) - set(told) - set(seeded) - set(standing)):
            self.report.left_out.append(
                f"price of {model}: not known; calls are refused until you set one (set_price)"
            )

    # --- Customers ------------------------------------------------------------------------------

    def customers(self, books: Books, *, is_issuing_keys: bool) -> None:
        organizations: dict[str, Organization] = {}
        for given in books.organizations:
            made = self._organization(given.name)
            organizations[given.id] = made
            self._bind(made, given.terms, f"organization {made}")
        teams: dict[str, Team] = {}
        for team in books.teams:
            home = organizations.get(team.organization_id) or self._organization(HOME)
            found = self._team(team.name, home, team.terms)
            if found:
                teams[team.id] = found
        for key in books.keys:
            self._key(key, teams, is_issued=is_issuing_keys)

    def _organization(self, name: str) -> Organization:
        slug = self._slug("organization", name)
        found = Organization.objects.filter(slug=slug).first()
        if found is None:
            found = directory.create_organization(slug=slug, name=name, actor=self.actor)
            self.report.made.append(f"organization {slug}")
        return found

    def _team(self, name: str, home: Organization, terms: Terms) -> Team | None:
        """None where there is one of that name already: it is left as it is, its keys too."""
        slug = self._slug("team", name)
        if Team.objects.filter(slug=slug).exists():
            self.report.there.append(f"team {slug}: left as it is")
            return None
        team = directory.create_team(
            slug=slug,
            name=name,
            organization=home,
            access_groups=self._groups_of(slug, terms.models),
            actor=self.actor,
        )
        self._bind(team, terms, f"team {slug}")
        if terms.is_blocked:
            directory.set_team_status(
                team=team, status=Team.Status.SUSPENDED, actor=self.actor, reason="blocked before"
            )
        self.report.made.append(f"team {slug}{', suspended' if terms.is_blocked else ''}")
        return team

    def _groups_of(self, team: str, models: Iterable[str]) -> list[AccessGroup]:
        named = list(models)
        if not named or _EVERYTHING & set(named):
            return [self._group(HOME)]
        groups = [self.groups[name] for name in named if name in self.groups]
        own = [self.aliases[name] for name in named if name in self.aliases]
        for name in named:
            if name not in self.groups and name not in self.aliases:
                self.report.left_out.append(
                    f"team {team}: it was granted {name}, which is not here"
                )
        if own:
            group = self._group(f"{HOME}-{team}"[:63])
            for alias in own:
                access.put_in_groups(
                    alias=alias, groups=[*alias.access_groups.all(), group], actor=self.actor
                )
            groups.append(group)
        return groups

    def _group(self, name: str) -> AccessGroup:
        if name not in self.groups:
            slug = self._slug("access group", name)
            self.groups[name], is_new = AccessGroup.objects.get_or_create(name=slug)
            if is_new:
                self.report.made.append(f"access group {slug}")
        return self.groups[name]

    def _bind(self, owner: Organization | Team, terms: Terms, about: str) -> None:
        """Rates of a minute, calls in flight, and the budget."""
        limits = {
            name: value
            for name in ("requests_per_minute", "tokens_per_minute", "calls_in_flight")
            if (value := getattr(terms, name))
        }
        if limits:
            type(owner)._default_manager.filter(pk=owner.pk).update(**limits)
        team = owner if isinstance(owner, Team) else None
        self._budget(owner, team, terms, about)

    def _budget(
        self, owner: Organization | Team | OwnKey, team: Team | None, terms: Terms, about: str
    ) -> None:
        usd = terms.max_budget_usd
        if usd is None:
            return
        version = plans.version_for(team) if team else plans.ensure_preset("job_based")
        limit = 0
        # The proxy keeps a float, which may be no number and larger than any wallet.
        if usd.is_finite() and usd * version.nanocredits_per_usd <= MAX_AMOUNT:
            limit = int((usd * version.nanocredits_per_usd).to_integral_value(ROUND_DOWN))
        if terms.budget_duration not in _PERIODS or limit <= 0:
            self.report.left_out.append(
                f"{about}: a budget of {usd} USD a {terms.budget_duration or 'life'};"
                " budgets are of a day, a week, a month or in all, above zero and within"
                f" {from_nano(MAX_AMOUNT)} credits"
            )
            return
        period = _PERIODS[terms.budget_duration]
        budgets.create(owner=owner, period=period, limit_nanocredits=limit, actor=self.actor)
        self.report.changed.append(
            f"{about}: {usd} USD of provider cost became {from_nano(limit)}"
            f" credits a {period}: a budget bounds what is charged, by the calendar (UTC)"
        )

    def _key(self, key: ApiKey, teams: dict[str, Team], *, is_issued: bool) -> None:
        about = f"key {key.name or 'without a name'}"
        team = teams.get(key.team_id)
        if team is None:
            self.report.left_out.append(f"{about}: of no team that was made now")
            return
        if key.terms.is_blocked or (key.expires_at and key.expires_at <= clock.now()):
            self.report.left_out.append(f"{about} of {team}: blocked or expired")
            return
        if key.terms.models:
            self.report.left_out.append(f"{about} of {team}: models are granted to teams, not keys")
        if not is_issued:
            self.report.left_out.append(
                f"{about} of {team}: the proxy keeps no key that could be carried over;"
                " issue one, here (--issue-keys FILE) or on the team's page"
            )
            return
        made, secret = keys.issue(
            team=team,
            name=key.name[:100],
            expires_at=key.expires_at,
            limits=KeyLimits(
                requests_per_minute=key.terms.requests_per_minute,
                tokens_per_minute=key.terms.tokens_per_minute,
                calls_in_flight=key.terms.calls_in_flight,
            ),
            actor=self.actor,
        )
        self._budget(made, team, key.terms, f"{about} of {team}")
        self.report.made.append(f"{about} of {team}, a new one")
        self.report.issued.append(Issued(team=team.slug, name=key.name, secret=secret))

    def _slug(self, what: str, name: str, separator: str = "-") -> str:
        """As our names are written; a name that had to be changed is told."""
        slug = slugify(re.sub(r"[./:@ ]+", separator, name))[:63].strip("-_")
        if not slug:
            raise Refusal(f"{what} {name!r} has no letter or digit to make a name of.")
        line = f"{what} {name} is called {slug}"
        if slug != name and line not in self.report.changed:
            self.report.changed.append(line)
        return slug


def _bundled() -> tuple[cost_map.Listed, ...]:
    try:
        return cost_map.bundled()
    except cost_map.CostMapMissing:
        return ()
