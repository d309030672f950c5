"""Limits shared by all processes: one Lua script a decision, on Redis' own clock.

Decisions that are asked for while one trip is under way go together in the next. A single Redis is assumed (the keys of one request would lie on several shards of a cluster).
"""

from __future__ import annotations

import asyncio
import hashlib
from contextvars import Context
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import redis

from saas_litellm.base.limiter.rules import WINDOW_SECONDS, Admission, Kind, Rule, Standing
from saas_litellm.base.redis_clients import RedisClients

# After the time in which Redis has to answer.
GRACE_SECONDS = 0.05


class Script:
    """A Lua script, and the digest by which Redis remembers it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


# KEYS: one a rule. ARGV: tokens, ticket, lease seconds, window; then kind and limit of each rule.
# Answers: number of the refusing rule (0: counted), milliseconds to wait, this second; then used
# and milliseconds to reset of each rule.
_ADMIT = Script("""
local clock = redis.call('TIME')
local second = tonumber(clock[1])
local now = second + tonumber(clock[2]) / 1000000
local tokens, ticket = tonumber(ARGV[1]), ARGV[2]
local lease, window = tonumber(ARGV[3]), tonumber(ARGV[4])
local refused, wait, used, reset = 0, 0, {}, {}
local function need(kind)
  if kind == 'tokens' then return tokens end
  return 1
end
for i, key in ipairs(KEYS) do
  local kind, limit = ARGV[3 + 2 * i], tonumber(ARGV[4 + 2 * i])
  local full, until_room = false, window
  reset[i] = 0
  if kind == 'in_flight' then
    redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
    used[i] = redis.call('ZCARD', key)
    full, until_room = used[i] + 1 > limit, 1
  else
    local flat, live, newest = redis.call('HGETALL', key), {}, nil
    used[i] = 0
    for j = 1, #flat, 2 do
      local at, count = tonumber(flat[j]), tonumber(flat[j + 1])
      if at < second - window then
        redis.call('HDEL', key, flat[j])
      else
        live[#live + 1] = {at, count}
        used[i] = used[i] + count
        if newest == nil or at > newest then newest = at end
      end
    end
    if newest then reset[i] = newest + window + 1 - now end
    full = used[i] + need(kind) > limit
    if full then
      table.sort(live, function(a, b) return a[1] < b[1] end)
      local room = limit - used[i]
      for _, bucket in ipairs(live) do
        room = room + bucket[2]
        if room >= need(kind) then
          until_room = bucket[1] + window + 1 - now
          break
        end
      end
    end
  end
  if full and refused == 0 then refused, wait = i, until_room end
end
if refused == 0 then
  for i, key in ipairs(KEYS) do
    local kind = ARGV[3 + 2 * i]
    if kind == 'in_flight' then
      redis.call('ZADD', key, now + lease, ticket)
      redis.call('EXPIRE', key, lease + 1)
    else
      redis.call('HINCRBY', key, second, need(kind))
      redis.call('EXPIRE', key, window + 2)
      reset[i] = second + window + 1 - now
    end
    used[i] = used[i] + need(kind)
  end
end
local answer = {refused, math.ceil(wait * 1000), second}
for i = 1, #KEYS do
  answer[#answer + 1] = used[i]
  answer[#answer + 1] = math.ceil(reset[i] * 1000)
end
return answer
""")
# KEYS: one a rule. ARGV: second, tokens to add, requests to add, ticket; then the kind of each.
_CORRECT = Script("""
local second, tokens, requests, ticket = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4]
for i, key in ipairs(KEYS) do
  local kind = ARGV[4 + i]
  if kind == 'in_flight' then
    redis.call('ZREM', key, ticket)
  elseif redis.call('HEXISTS', key, second) == 1 then
    local added = kind == 'tokens' and tokens or requests
    if redis.call('HINCRBY', key, second, added) < 0 then redis.call('HSET', key, second, 0) end
  end
end
""")


class SharedLimiter:
    """Raises redis.RedisError or TimeoutError when Redis does not answer in time."""

    def __init__(
        self,
        url: str,
        *,
        window: int = WINDOW_SECONDS,
        namespace: str,
        timeout_seconds: float = 0.5,
    ) -> None:
        self._clients = RedisClients(url)
        self._trips: WeakKeyDictionary[asyncio.AbstractEventLoop, _Trips] = WeakKeyDictionary()
        self._window = window
        self._namespace = namespace
        self._timeout = timeout_seconds

    async def admit(
        self, rules: tuple[Rule, ...], *, tokens: int, ticket: str, lease_seconds: int
    ) -> Admission:
        given: list[Any] = [tokens, ticket, lease_seconds, self._window]
        for rule in rules:
            given += [rule.kind.value, rule.limit]
        answer = await self._answer(_ADMIT, rules, given)
        refused, wait, second, *figures = answer
        return Admission(
            ticket=ticket,
            tokens=tokens,
            second=second,
            standings=tuple(
                Standing(
                    rule=rule,
                    remaining=max(0, rule.limit - figures[2 * index]),
                    reset_seconds=figures[2 * index + 1] / 1000,
                )
                for index, rule in enumerate(rules)
            ),
            refused=rules[refused - 1] if refused else None,
            retry_after_seconds=wait / 1000,
        )

    async def correct(self, admission: Admission, *, tokens: int, requests: int) -> None:
        rules = tuple(
            standing.rule
            for standing in admission.standings
            if (standing.rule.kind is Kind.IN_FLIGHT)
            or (standing.rule.kind is Kind.TOKENS and tokens)
            or (standing.rule.kind is Kind.REQUESTS and requests)
        )
        if not rules:
            return
        kinds = [rule.kind.value for rule in rules]
        given = [admission.second, tokens, requests, admission.ticket, *kinds]
        await self._answer(_CORRECT, rules, given)

    async def _answer(self, script: Script, rules: tuple[Rule, ...], given: list[Any]) -> Any:
        loop = asyncio.get_running_loop()
        trips = self._trips.get(loop)
        if trips is None:
            trips = self._trips[loop] = _Trips(self._clients.get(), self._timeout)
        keys = [f"{self._namespace}:{rule.key}" for rule in rules]
        return await trips.answer(script, [len(keys), *keys, *given])


@dataclass(frozen=True, slots=True)
class _Asked:
    script: Script
    given: list[Any]
    answer: asyncio.Future[Any]


class _Trips:
    """Round trips to Redis on one event loop, one after the other, each with all that waits."""

    def __init__(self, client: Any, timeout_seconds: float) -> None:
        self._client = client
        self._timeout = timeout_seconds
        self._waiting: list[_Asked] = []
        self._task: asyncio.Task[None] | None = None

    def answer(self, script: Script, given: list[Any]) -> asyncio.Future[Any]:
        """What the script answers; ``given`` as EVALSHA takes it after the digest."""
        loop = asyncio.get_running_loop()
        asked = _Asked(script, given, loop.create_future())
        self._waiting.append(asked)
        if self._task is None:
            # In no request's context: it works for many.
            self._task = loop.create_task(self._work(), name="limits", context=Context())
        return asked.answer

    async def _work(self) -> None:
        try:
            while self._waiting:
                taken, self._waiting = self._waiting, []
                for asked, answer in zip(taken, await self._trip(taken), strict=True):
                    if asked.answer.done():
                        continue
                    if isinstance(answer, Exception):
                        asked.answer.set_exception(answer)
                    else:
                        asked.answer.set_result(answer)
        finally:
            self._task = None

    async def _trip(self, taken: list[_Asked]) -> list[Any]:
        """An answer or an exception for each."""
        trip = asyncio.create_task(self._there_and_back(taken), name="limits-trip")
        await asyncio.wait([trip], timeout=self._timeout)
        if not trip.done():
            # What was late may have been this process, with the answer in its hands.
            await asyncio.wait([trip], timeout=GRACE_SECONDS)
        if not trip.done():
            trip.cancel()
            return [TimeoutError("no answer in time") for _ in taken]
        try:
            return trip.result()
        except Exception as error:
            # Whatever it is, nobody may wait for ever.
            return [error for _ in taken]

    async def _there_and_back(self, taken: list[_Asked]) -> list[Any]:
        together = self._client.pipeline(transaction=False)
        for asked in taken:
            together.evalsha(asked.script.digest, *asked.given)
        answers: list[Any] = await together.execute(raise_on_error=False)
        for number, answer in enumerate(answers):
            # A script goes to Redis by its text only if Redis does not know it.
            if isinstance(answer, redis.exceptions.NoScriptError):
                asked = taken[number]
                answers[number] = await self._client.eval(asked.script.text, *asked.given)
        return answers
