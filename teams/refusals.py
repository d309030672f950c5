from __future__ import annotations

from saas_litellm.base.refusals import Conflict, Forbidden, Invalid, Unauthenticated, Unavailable


class KeyExpired(Unauthenticated):
    code = "key_expired"
    default_message = "This API key has expired. Ask the operator for a new one."


class TeamMismatch(Forbidden):
    code = "team_mismatch"
    default_message = "This key belongs to another team than team_id names."


class TeamPaused(Forbidden):
    code = "team_paused"
    default_message = "This team is paused. Ask the operator to resume it."


class TeamSuspended(Forbidden):
    code = "team_suspended"
    default_message = "This team is suspended. Ask the operator about it."


class OrganizationSuspended(Forbidden):
    code = "organization_suspended"
    default_message = "This organization is suspended or closed. Ask the operator about it."


class ModelNotAllowed(Forbidden):
    code = "model_not_allowed"
    default_message = "This team may not use a model of that name. GET /v1/models lists its models."


class ModelUnavailable(Unavailable):
    code = "model_unavailable"
    default_message = "This model cannot be served right now. The operator has been told."


class SlugTaken(Conflict):
    code = "already_exists"
    default_message = "That id is taken."


class BadSlug(Invalid):
    default_message = "Use lower-case letters, digits, - and _ (63 at most)."
