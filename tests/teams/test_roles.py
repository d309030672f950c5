"""Roles: what each may do, how a key narrows it, and that an owner stays."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client

from teams import operators, roles, staff
from teams.models import User
from tests import factories

PASSWORD = "a long password of no use"


def person(name: str, role: str) -> User:
    return staff.create(username=name, role=role, actor="test", password=PASSWORD)[0]


def browser(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def olga(db: None, pages_served: None) -> User:
    return person("olga", roles.OWNER)


@pytest.mark.parametrize(
    ("permission", "who"),
    [
        ("auth.change_group", {"owner"}),
        ("teams.change_user", {"owner"}),
        ("teams.view_user", {"owner"}),
        ("teams.change_operatorkey", {"owner"}),
        ("teams.view_operatorkey", {"owner", "admin"}),
        ("teams.change_providercredential", {"owner", "admin"}),
        ("teams.view_providercredential", {"owner", "admin"}),
        ("jobs.view_payload", {"owner", "admin"}),
        ("teams.act_for_team", {"owner", "admin"}),
        ("teams.change_alias", {"owner", "admin"}),
        ("teams.change_team", {"owner", "admin"}),
        ("teams.choose_wallet", {"owner", "admin", "finance"}),
        ("billing.add_entry", {"owner", "admin", "finance"}),
        ("billing.change_planversion", {"owner", "admin", "finance"}),
        ("jobs.add_costline", {"owner", "admin", "finance"}),
        ("jobs.refund_beyond_limit", {"owner", "admin", "finance"}),
        ("jobs.refund_job", {"owner", "admin", "finance", "support"}),
        ("teams.pause_team", {"owner", "admin", "support"}),
        ("jobs.view_profitday", {"owner", "admin", "finance", "support", "viewer"}),
        ("base.view_auditentry", {"owner", "admin", "finance", "support", "viewer"}),
    ],
)
def test_a_role_may_what_the_table_says(db: None, permission: str, who: set[str]) -> None:
    people = {role: person(role, role) for role in roles.ROLES}
    assert {role for role, user in people.items() if user.has_perm(permission)} == who
    assert {name for name, role in roles.ROLES.items() if role.allows(permission)} == who


def test_a_viewer_only_looks(db: None) -> None:
    held = Group.objects.get(name="viewer").permissions.values_list("codename", flat=True)
    assert len(held) > 30
    assert {name for name in held if not name.startswith("view_")} == set()


def test_migrating_again_brings_a_role_back_to_the_table(db: None) -> None:
    viewer = Group.objects.get(name="viewer")
    before = set(viewer.permissions.values_list("codename", flat=True))
    viewer.permissions.add(Permission.objects.get(codename="add_entry"))
    viewer.permissions.remove(Permission.objects.get(codename="view_team"))
    call_command("migrate", verbosity=0)
    assert set(viewer.permissions.values_list("codename", flat=True)) == before


def test_a_key_with_a_role_may_what_both_it_and_its_user_may(db: None) -> None:
    fred = person("fred", "finance")
    _, text = operators.issue(user=fred, actor="test", role="support")
    narrowed = operators.authenticate(text)
    assert narrowed.may("jobs.refund_job")
    assert not narrowed.may("jobs.refund_beyond_limit")
    assert not narrowed.may("billing.add_entry")
    # Support may pause teams, finance may not: a role never adds anything.
    assert not narrowed.may("teams.pause_team")
    fred.groups.clear()
    assert not operators.authenticate(text).may("jobs.refund_job")


def test_a_key_of_a_role_that_is_no_more_may_nothing(db: None) -> None:
    key, text = operators.issue(user=person("olga", "owner"), actor="test", role="viewer")
    type(key).objects.update(role="gone")
    assert not operators.authenticate(text).may("jobs.view_job")


def test_commands_make_operators_and_keys_with_roles(db: None) -> None:
    out = StringIO()
    call_command("create_operator", "sue", "--role", "support", "--json", stdout=out)
    made = json.loads(out.getvalue())
    sue = User.objects.get(username="sue")
    assert sue.check_password(made["password"])
    assert (sue.is_staff, sue.is_superuser) == (True, False)
    assert [group.name for group in sue.groups.all()] == ["support"]
    with pytest.raises(CommandError, match="already"):
        call_command("create_operator", "sue", "--role", "owner")
    call_command("issue_operator_key", "sue", "--role", "viewer")
    assert sue.operator_keys.get().role == "viewer"


def change(client: Client, user: User, **given: Any) -> Any:
    form: dict[str, Any] = {
        "username": user.username,
        "email": user.email,
        "is_active": "on",
        "is_staff": "on",
        "groups": list(user.groups.values_list("pk", flat=True)),
        **given,
    }
    wanted = {name: value for name, value in form.items() if value is not None}
    return client.post(f"/admin/teams/user/{user.pk}/change/", wanted, follow=True)


@pytest.mark.parametrize("how", [{"groups": None}, {"is_active": None}, {"is_staff": None}])
def test_the_last_owner_stays(olga: User, how: dict[str, Any]) -> None:
    page = change(browser(olga), olga, **how)
    assert "the last owner" in page.content.decode()
    assert staff.owners().get() == olga
    person("otto", roles.OWNER)
    change(browser(olga), olga, **how)
    assert staff.owners().get().username == "otto"


def test_the_last_owner_is_not_deleted(olga: User) -> None:
    client = browser(olga)
    page = client.post(f"/admin/teams/user/{olga.pk}/delete/", {"post": "yes"}, follow=True)
    assert "the last owner" in page.content.decode()
    form = {"action": "delete_selected", "_selected_action": [olga.pk], "post": "yes"}
    page = client.post("/admin/teams/user/", form, follow=True)
    assert "the last owner" in page.content.decode()
    assert staff.owners().get() == olga


def test_a_superuser_is_an_owner_too(olga: User) -> None:
    root = User.objects.create_superuser("root", password=PASSWORD)
    change(browser(root), olga, groups=None)
    assert staff.owners().get() == root
    page = change(browser(root), root, is_superuser=None)
    assert "the last owner" in page.content.decode()
    assert staff.owners().get() == root


def at_once(*tasks: Callable[[], None]) -> list[str]:
    gate, said = threading.Barrier(len(tasks)), []

    def run(task: Callable[[], None]) -> None:
        gate.wait()
        try:
            task()
            said.append("done")
        except staff.LastOwner:
            said.append("refused")
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(said)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["demoted", "deactivated", "deleted"])
def test_two_owners_cannot_remove_each_other_at_once(how: str) -> None:
    pair = [person(name, roles.OWNER) for name in ("olga", "otto")]

    def remove(user: User) -> Callable[[], None]:
        def task() -> None:
            with staff.an_owner_stays():
                if how == "demoted":
                    user.groups.clear()
                elif how == "deactivated":
                    User.objects.filter(pk=user.pk).update(is_active=False)
                else:
                    User.objects.filter(pk=user.pk).delete()

        return task

    assert at_once(*map(remove, pair)) == ["done", "refused"]
    assert staff.owners().count() == 1


@pytest.fixture
def hugo(olga: User) -> User:
    """May change people by a group of the owner's own, but is no owner."""
    group = Group.objects.create(name="people")
    named = ("view_user", "change_user", "add_user", "delete_user", "view_group", "change_group")
    group.permissions.set(Permission.objects.filter(codename__in=named))
    hugo = person("hugo", "viewer")
    hugo.groups.add(group)
    return hugo


def test_nobody_gives_a_role_beyond_their_own_rights(hugo: User) -> None:
    client = browser(hugo)
    wider = {name: Group.objects.get(name=name).pk for name in ("owner", "finance", "viewer")}
    vera = person("vera", "viewer")
    for user in (hugo, vera):
        before = set(user.groups.all())
        for name in ("owner", "finance"):
            page = change(client, user, groups=[*(g.pk for g in before), wider[name]])
            assert "beyond your own rights" in page.content.decode()
        change(client, user, is_superuser="on")
        user.refresh_from_db()
        assert (set(user.groups.all()), user.is_superuser) == (before, False)
    change(client, vera, groups=None)
    assert not vera.groups.exists()
    change(client, vera, groups=[wider["viewer"]])
    assert vera.groups.exists()


def test_nobody_touches_a_person_of_wider_rights(hugo: User, olga: User) -> None:
    client = browser(hugo)
    asleep = person("fred", "finance")
    User.objects.filter(pk=asleep.pk).update(is_active=False)
    for user in (olga, asleep):
        new = {"password1": "another long password", "password2": "another long password"}
        assert client.post(f"/admin/teams/user/{user.pk}/password/", new).status_code == 403
        assert client.post(f"/admin/teams/user/{user.pk}/delete/", {}).status_code == 403
        assert change(client, user, email="x@example.com").status_code == 403
        user.refresh_from_db()
        assert (user.check_password(PASSWORD), user.email) == (True, "")


def test_a_group_of_ones_own_does_not_grow_beyond_its_editor(hugo: User) -> None:
    group = Group.objects.get(name="people")
    held = list(group.permissions.values_list("pk", flat=True))
    more = Permission.objects.get(codename="view_providercredential").pk
    path = f"/admin/auth/group/{group.pk}/change/"
    page = browser(hugo).post(path, {"name": "people", "permissions": [*held, more]}, follow=True)
    assert "beyond your own rights" in page.content.decode()
    assert group.permissions.count() == len(held)


@pytest.mark.parametrize("name", roles.ROLES)
def test_a_built_in_role_is_neither_edited_nor_deleted(olga: User, name: str) -> None:
    client, group = browser(olga), Group.objects.get(name=name)
    page = f"/admin/auth/group/{group.pk}/"
    assert client.get(f"{page}change/").status_code == 200
    assert client.post(f"{page}change/", {"name": "x"}).status_code == 403
    assert client.post(f"{page}delete/", {"post": "yes"}).status_code == 403
    chosen = {"action": "delete_selected", "_selected_action": [group.pk], "post": "yes"}
    assert client.post("/admin/auth/group/", chosen).status_code == 403
    assert Group.objects.get(pk=group.pk).permissions.exists()


def test_support_neither_softens_nor_lifts_a_suspension(olga: User) -> None:
    team = factories.team()
    client = browser(person("sue", "support"))
    for status, action, after in (
        ("active", "pause", "paused"),
        ("paused", "resume", "active"),
        ("suspended", "pause", "suspended"),
        ("suspended", "resume", "suspended"),
        ("active", "suspend", "active"),
    ):
        type(team).objects.update(status=status)
        client.post("/admin/teams/team/", {"action": action, "_selected_action": [team.pk]})
        team.refresh_from_db()
        assert team.status == after, (status, action)


def test_the_first_run_makes_an_owner(db: None) -> None:
    from saas_litellm import quickstart

    shown = quickstart.set_up()
    owner = staff.owners().get()
    assert owner.check_password(str(shown.password))
    assert owner.has_perm("auth.change_group")


def test_a_roles_page_asks_once_for_its_rights(
    olga: User, django_assert_max_num_queries: Any
) -> None:
    group = Group.objects.get(name="viewer")
    assert group.permissions.count() > 20
    with django_assert_max_num_queries(30):
        assert browser(olga).get(f"/admin/auth/group/{group.pk}/change/").status_code == 200
