from __future__ import annotations

from datetime import timedelta

import pytest

from saas_litellm.base import clock
from saas_litellm.base.models import AuditEntry
from saas_litellm.base.refusals import Invalid, NotFound, Unauthenticated
from teams import keys
from teams.models import ApiKey
from tests import factories

pytestmark = pytest.mark.django_db


def test_only_a_keyed_hash_is_kept_and_the_text_is_never_logged() -> None:
    key, text = keys.issue(team=factories.team(), actor="alice")
    stored = " ".join(map(str, [*ApiKey.objects.values_list(), *AuditEntry.objects.values_list()]))
    assert text not in stored
    assert text.split("_", 2)[2] not in stored
    assert keys.authenticate(text) == key


@pytest.mark.parametrize("wrong", ["", "slk_", "nonsense", "slk_" + "0" * 12 + "_" + "a" * 43])
def test_what_is_not_a_key_is_refused(wrong: str) -> None:
    with pytest.raises(Unauthenticated):
        keys.authenticate(wrong)


def test_the_right_prefix_with_another_secret_is_refused() -> None:
    _, text = keys.issue(team=factories.team(), actor="alice")
    with pytest.raises(Unauthenticated):
        keys.authenticate(text[:-1] + ("a" if text[-1] != "a" else "b"))


def test_a_rotated_key_works_beside_its_successor_until_the_overlap_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, old_text = keys.issue(team=factories.team(), actor="alice")
    _, new_text = keys.rotate(prefix=old.prefix, actor="alice", overlap=timedelta(hours=1))
    assert keys.authenticate(old_text).team == keys.authenticate(new_text).team
    with pytest.raises(keys.KeyAlreadyEnding):
        keys.rotate(prefix=old.prefix, actor="alice", overlap=timedelta(hours=1))
    assert ApiKey.objects.count() == 2
    later = clock.now() + timedelta(hours=1)
    monkeypatch.setattr(clock, "now", lambda: later)
    with pytest.raises(Unauthenticated):
        keys.authenticate(old_text)
    assert keys.authenticate(new_text)


def test_a_key_has_limits_of_its_own_and_its_successor_keeps_them() -> None:
    limits = keys.KeyLimits(requests_per_minute=5, calls_in_flight=1)
    old, _ = keys.issue(team=factories.team(), actor="alice", limits=limits)
    new, _ = keys.rotate(prefix=old.prefix, actor="alice", overlap=timedelta(0))
    assert (new.requests_per_minute, new.tokens_per_minute, new.calls_in_flight) == (5, None, 1)
    with pytest.raises(Invalid):
        keys.issue(team=old.team, actor="alice", limits=keys.KeyLimits(tokens_per_minute=0))


def test_a_successor_ends_when_the_key_would_have(monkeypatch: pytest.MonkeyPatch) -> None:
    ends = clock.now() + timedelta(days=1)
    old, _ = keys.issue(team=factories.team(), actor="alice", expires_at=ends)
    new, text = keys.rotate(prefix=old.prefix, actor="alice", overlap=timedelta(0))
    assert new.expires_at == ends
    monkeypatch.setattr(clock, "now", lambda: ends)
    with pytest.raises(Unauthenticated):
        keys.authenticate(text)
    with pytest.raises(keys.KeyAlreadyEnding):
        keys.rotate(prefix=new.prefix, actor="alice", overlap=timedelta(0))


def test_bad_times_and_unknown_prefixes_are_refused() -> None:
    team = factories.team()
    with pytest.raises(Invalid):
        keys.issue(team=team, actor="a", expires_at=clock.now())
    with pytest.raises(Invalid):
        keys.rotate(prefix="x", actor="a", overlap=timedelta(seconds=-1))
    with pytest.raises(NotFound):
        keys.revoke(prefix="x", actor="a")
