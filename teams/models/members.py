"""Who may see a team's own pages: its members, and those who are invited."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q

from teams.models.people import Team, User


class MemberRole(models.TextChoices):
    MEMBER = "member", "member: looks"
    MANAGER = "manager", "manager: budgets, members, and keys where allowed"


class Membership(models.Model):
    """A person of a team. It opens the team's own pages, and nothing of the admin or the API."""

    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    team = models.ForeignKey(Team, models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=7, choices=MemberRole.choices, default=MemberRole.MEMBER)
    invited_by = models.CharField(max_length=200, help_text="The actor of the invitation.")
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("team", "id")
        constraints = [
            models.UniqueConstraint(fields=["user", "team"], name="membership_once"),
            models.CheckConstraint(
                condition=Q(role__in=["member", "manager"]), name="membership_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.team}"


class Invitation(models.Model):
    """An e-mail with a link that makes its reader a member, once.

    Only the keyed hash of the link's token is kept.
    """

    team = models.ForeignKey(Team, models.PROTECT, related_name="invitations")
    email = models.EmailField(help_text="In lower case.")
    role = models.CharField(max_length=7, choices=MemberRole.choices, default=MemberRole.MEMBER)
    digest = models.CharField(max_length=64, unique=True)
    invited_by = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True, help_text="Or replaced by a newer.")

    class Meta:
        ordering = ("-id",)
        constraints = [
            models.UniqueConstraint(
                fields=["team", "email"],
                condition=Q(accepted_at=None, revoked_at=None),
                name="invitation_open_once",
            ),
            models.CheckConstraint(
                condition=Q(accepted_at=None) | Q(revoked_at=None),
                name="invitation_accepted_or_revoked",
            ),
            models.CheckConstraint(
                condition=Q(role__in=["member", "manager"]), name="invitation_role_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.email} to {self.team}"

    def is_open_at(self, moment: datetime) -> bool:
        return self.accepted_at is None and self.revoked_at is None and moment < self.expires_at
