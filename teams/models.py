"""Who is asking and what they may use.

An organization has teams; a team holds API keys and access groups. A group grants aliases; an
alias hides ordered deployments, each a litellm model string, a credential and a price sheet.
"""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AbstractUser
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from saas_litellm.base.models import AppendOnly

slug_validator = RegexValidator(
    r"\A[a-z0-9][a-z0-9_-]{0,62}\Z",
    "Use lower-case letters, digits, - and _, starting with a letter or digit (63 at most).",
)


class User(AbstractUser):
    """A person who signs in: an operator when ``is_staff``."""


class Organization(models.Model):
    class Status(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"
        CLOSED = "closed"

    slug = models.CharField(max_length=63, unique=True, validators=[slug_validator])
    name = models.CharField(max_length=200)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.ACTIVE)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("slug",)
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["active", "suspended", "closed"]),
                name="organization_status_known",
            )
        ]

    def __str__(self) -> str:
        return self.slug


class Alias(models.Model):
    """The team-facing model name."""

    name = models.CharField(max_length=63, unique=True, validators=[slug_validator])
    description = models.CharField(max_length=300, blank=True)
    is_active = models.BooleanField(default=True)
    default_max_tokens = models.PositiveIntegerField(
        default=1024, help_text="Injected when the caller sends none, so that a hold is a bound."
    )
    max_output_tokens = models.PositiveIntegerField(
        default=32_768, help_text="The most a caller may ask for in one answer."
    )

    class Meta:
        ordering = ("name",)
        verbose_name_plural = "aliases"
        constraints = [
            models.CheckConstraint(
                condition=Q(default_max_tokens__gt=0)
                & Q(max_output_tokens__gte=models.F("default_max_tokens"))
                & Q(max_output_tokens__lte=10_000_000),
                name="alias_output_limits_sensible",
            )
        ]

    def __str__(self) -> str:
        return self.name


class AccessGroup(models.Model):
    """A named set of aliases granted to teams; an inactive one grants nothing."""

    name = models.CharField(max_length=63, unique=True, validators=[slug_validator])
    is_active = models.BooleanField(default=True)
    aliases = models.ManyToManyField(Alias, related_name="access_groups", blank=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Team(models.Model):
    class Status(models.TextChoices):
        ACTIVE = "active"
        PAUSED = "paused"
        SUSPENDED = "suspended"

    class Wallet(models.TextChoices):
        TEAM = "team", "its own"
        ORGANIZATION = "organization", "its organization's"

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="teams")
    slug = models.CharField(max_length=63, unique=True, validators=[slug_validator])
    name = models.CharField(max_length=200)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.ACTIVE)
    draws_on = models.CharField(max_length=12, choices=Wallet.choices, default=Wallet.TEAM)
    default_alias = models.ForeignKey(
        Alias, models.PROTECT, null=True, blank=True, related_name="+"
    )
    access_groups = models.ManyToManyField(AccessGroup, related_name="teams", blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("slug",)
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["active", "paused", "suspended"]), name="team_status_known"
            ),
            models.CheckConstraint(
                condition=Q(draws_on__in=["team", "organization"]), name="team_wallet_known"
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class ApiKey(models.Model):
    """A team's bearer secret: only its prefix and keyed hash are kept."""

    team = models.ForeignKey(Team, models.PROTECT, related_name="api_keys")
    name = models.CharField(max_length=100, blank=True)
    prefix = models.CharField(max_length=16, unique=True)
    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    replaced_by = models.OneToOneField(
        "self", models.PROTECT, null=True, blank=True, related_name="replaces"
    )

    class Meta:
        ordering = ("-id",)
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"{self.prefix}…"

    def is_usable_at(self, moment: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or moment < self.expires_at)


class OperatorKey(models.Model):
    """A bearer secret of the management API: it may do what the user behind it may."""

    user = models.ForeignKey(User, models.PROTECT, related_name="operator_keys")
    name = models.CharField(max_length=100, blank=True)
    prefix = models.CharField(max_length=16, unique=True)
    digest = models.CharField(max_length=64)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.prefix}…"


class ProviderCredential(models.Model):
    """How to sign in at a provider; the secret is encrypted and never shown again."""

    name = models.CharField(max_length=63, unique=True, validators=[slug_validator])
    secret_ciphertext = models.TextField(editable=False)
    api_base = models.URLField(max_length=500, blank=True)
    extra = models.JSONField(
        default=dict,
        blank=True,
        help_text="Further settings of the provider that are not secret, such as api_version.",
    )
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ("name",)

    def __str__(self) -> str:
        return self.name


class Deployment(models.Model):
    """One way to serve an alias: a litellm model string, a credential and a price sheet."""

    alias = models.ForeignKey(Alias, models.PROTECT, related_name="deployments")
    model = models.CharField(max_length=200, help_text="litellm's model string: provider/model")
    credential = models.ForeignKey(ProviderCredential, models.PROTECT, null=True, blank=True)
    price_key = models.CharField(
        max_length=200, blank=True, help_text="Where its unit prices stand; empty: under the model."
    )
    priority = models.PositiveSmallIntegerField(default=0, help_text="Lower is tried first.")
    weight = models.PositiveSmallIntegerField(default=1)
    is_active = models.BooleanField(default=True)
    image_tokens = models.PositiveIntegerField(
        default=1600,
        help_text="The most prompt tokens one image can cost here, by the provider's documentation.",
    )

    class Meta:
        ordering = ("alias", "priority", "id")

    def __str__(self) -> str:
        return f"{self.alias} → {self.model}"

    @property
    def effective_price_key(self) -> str:
        return self.price_key or self.model


class UnitPrice(AppendOnly):
    """One version of a model's unit prices; the newest one in effect counts.

    ``rates`` is `teams.prices.UnitPrices` as JSON, integers in femto-USD per token.
    """

    price_key = models.CharField(max_length=200)
    rates = models.JSONField()
    source = models.CharField(max_length=200)
    fingerprint = models.CharField(max_length=64)
    effective_from = models.DateTimeField()
    created_at = models.DateTimeField()

    class Meta(AppendOnly.Meta):
        ordering = ("price_key", "-effective_from", "-id")
        indexes = [
            models.Index(fields=["price_key", "-effective_from", "-id"], name="unit_price_current")
        ]

    def __str__(self) -> str:
        return f"{self.price_key} from {self.effective_from:%Y-%m-%d}"
