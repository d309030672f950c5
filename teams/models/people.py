"""Who is asking: organizations, their teams, the keys of those, and operators."""

from __future__ import annotations

from datetime import datetime

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q

from teams.models.limits import Limited
from teams.models.slugs import slug_validator


class User(AbstractUser):
    """A person who signs in: an operator when ``is_staff``, else somebody with memberships."""


class Organization(Limited):
    """A customer company: its teams, and what they may share (a wallet, aliases, limits)."""

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


class Team(Limited):
    """The unit that holds credits, keys and limits; its slug is the `team_id` of the API."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        PAUSED = "paused"
        SUSPENDED = "suspended"

    class Wallet(models.TextChoices):
        TEAM = "team", "its own"
        ORGANIZATION = "organization", "its organization's"

    class PayloadPolicy(models.TextChoices):
        OFF = "off", "nothing of what a call says"
        METADATA = "metadata", "a call's purpose and metadata, no prompts and no answers"
        FULL = "full", "prompts and answers too, encrypted"

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="teams")
    slug = models.CharField(max_length=63, unique=True, validators=[slug_validator])
    name = models.CharField(max_length=200)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.ACTIVE)
    draws_on = models.CharField(max_length=12, choices=Wallet.choices, default=Wallet.TEAM)
    is_replay_kept = models.BooleanField(
        default=True,
        help_text="Keep answers for a day, encrypted, so that an Idempotency-Key can replay them.",
    )
    payload_policy = models.CharField(
        max_length=8,
        choices=PayloadPolicy.choices,
        default=PayloadPolicy.METADATA,
        help_text="What is kept of calls.",
    )
    payload_retention_days = models.PositiveSmallIntegerField(
        default=30, help_text="After so many days prompts and answers are deleted."
    )
    redacted_fields = models.JSONField(
        default=list,
        blank=True,
        help_text='Fields whose content is never kept, at any depth: ["messages", "ssn"].',
    )
    default_alias = models.ForeignKey(
        "teams.Alias", models.PROTECT, null=True, blank=True, related_name="+"
    )
    access_groups = models.ManyToManyField("teams.AccessGroup", related_name="teams", blank=True)
    is_key_self_service = models.BooleanField(
        default=False,
        verbose_name="Manages its own keys",
        help_text="Its managers issue, rotate and revoke its API keys on the team's own page.",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("slug",)
        permissions = (
            ("act_for_team", "Can act for a team over the API"),
            ("pause_team", "Can pause a team and let it go on"),
            ("choose_wallet", "Can choose the wallet a team draws on"),
        )
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=["active", "paused", "suspended"]), name="team_status_known"
            ),
            models.CheckConstraint(
                condition=Q(payload_policy__in=["off", "metadata", "full"])
                & Q(payload_retention_days__gte=1, payload_retention_days__lte=3650),
                name="team_payload_policy_known",
            ),
            models.CheckConstraint(
                condition=Q(draws_on__in=["team", "organization"]), name="team_wallet_known"
            ),
        ]

    def __str__(self) -> str:
        return self.slug


class ApiKey(Limited):
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
    role = models.CharField(
        max_length=20,
        blank=True,
        help_text="Narrows it: what both the user and this role may do. Empty: what the user may.",
    )
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
