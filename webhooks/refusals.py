from __future__ import annotations

from saas_litellm.base.refusals import Conflict


class EndpointOff(Conflict):
    code = "endpoint_off"
    default_message = "This endpoint is switched off. Switch it on first (is_active: true)."


class TooManyEndpoints(Conflict):
    code = "too_many_endpoints"
    default_message = "There are 20 endpoints already. Delete one that is not used any more."
