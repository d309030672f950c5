"""Who is asking and what they may use.

An organization has teams; a team holds members, API keys and access groups. A group grants aliases; an
alias hides ordered deployments, each a litellm model string, a credential and a price sheet.
"""

from teams.models.members import Invitation, MemberRole, Membership
from teams.models.people import ApiKey, OperatorKey, Organization, Team, User
from teams.models.slugs import slug_validator
from teams.models.supply import (
    AccessGroup,
    Alias,
    Deployment,
    DeploymentHealth,
    ProviderCredential,
    UnitPrice,
)

__all__ = [
    "AccessGroup",
    "Alias",
    "ApiKey",
    "Deployment",
    "DeploymentHealth",
    "Invitation",
    "MemberRole",
    "Membership",
    "OperatorKey",
    "Organization",
    "ProviderCredential",
    "Team",
    "UnitPrice",
    "User",
    "slug_validator",
]
