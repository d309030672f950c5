"""Client of SaaS LiteLLM: jobs, LLM calls, streams, structured output, credits.

with Client(api_key=..., team_id="acme-corp") as client:
    with client.job("document_analysis") as job:
        print(job.call("Summarise our contract.").text)
    print(job.closed.costs.credits_charged)
"""

from saas_litellm_client import answers, errors
from saas_litellm_client._frames import Chunk, StreamedAnswer
from saas_litellm_client._repairs import tool
from saas_litellm_client._version import __version__
from saas_litellm_client.answers import Call, ClosedJob, OneCall, ToolCall, Usage
from saas_litellm_client.async_client import AsyncClient
from saas_litellm_client.async_job import AsyncJob
from saas_litellm_client.async_streams import AsyncStream, AsyncStructuredStream
from saas_litellm_client.client import Client
from saas_litellm_client.errors import ApiError, ClientError
from saas_litellm_client.job import Job
from saas_litellm_client.options import Messages, Retries, Timeouts
from saas_litellm_client.streams import Stream, StructuredStream

__all__ = [
    "ApiError",
    "AsyncClient",
    "AsyncJob",
    "AsyncStream",
    "AsyncStructuredStream",
    "Call",
    "Chunk",
    "Client",
    "ClientError",
    "ClosedJob",
    "Job",
    "Messages",
    "OneCall",
    "Retries",
    "Stream",
    "StreamedAnswer",
    "StructuredStream",
    "Timeouts",
    "ToolCall",
    "Usage",
    "__version__",
    "answers",
    "errors",
    "tool",
]
