"""An agent in one job: it calls tools until it has an answer, and never costs more than its cap.

pip install saas-litellm-client
SAAS_BASE_URL=... SAAS_API_KEY=... SAAS_TEAM_ID=acme-corp python agent_loop.py "Who pays?"
"""

from __future__ import annotations

import sys
from decimal import Decimal
from typing import Any

from pydantic import BaseModel, Field, ValidationError

from saas_litellm_client import Client, ToolCall, errors, tool

CLAUSES = {
    "rent": "Clause 4: the tenant pays 1,200 a month.",
    "repairs": "Clause 9: the landlord pays for repairs above 100.",
}
MAX_STEPS = 8


class FindClause(BaseModel):
    """Find what the contract says about a subject."""

    subject: str = Field(description="One word: rent or repairs")


def use(called: ToolCall) -> str:
    """What the tool says; what was wrong with the call goes back to the model."""
    try:
        return CLAUSES.get(called.parse(FindClause).subject, "The contract says nothing of it.")
    except ValidationError as error:
        return f"The arguments do not fit: {error.errors()[0]['msg']}"


def run(client: Client, question: str, *, max_credits: Decimal) -> str:
    """The answer; when the cap is reached, what was found until then."""
    found: list[str] = []
    talk: list[dict[str, Any]] = [{"role": "user", "content": question}]
    with client.job("contract_agent", max_credits=max_credits, reserve=True) as job:
        for step in range(MAX_STEPS):
            try:
                answer = job.call(
                    talk, purpose=f"step {step}", tools=[tool(FindClause)], max_tokens=300
                )
            except errors.JobCapExceeded:
                # The job is still open, and what was found is worth having.
                break
            if not answer.tool_calls:
                job.complete(result=answer.text, outcome="full")
                return answer.text
            talk.append(answer.message)
            for called in answer.tool_calls:
                found.append(use(called))
                talk.append(called.result(found[-1]))
        job.complete(result=found, outcome="partial" if found else "none")
    return "Not finished. " + " ".join(found)


if __name__ == "__main__":
    with Client() as team:
        print(run(team, " ".join(sys.argv[1:]) or "Who pays?", max_credits=Decimal(5)))
