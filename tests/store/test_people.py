"""People, sessions and tokens: who is let in, and for how long."""

from __future__ import annotations

from typing import Any

import pytest
from argon2 import PasswordHasher
from sqlalchemy import select

from makellos.errors import InputError
from makellos.store import ROLES, NotFoundError, Person, Store, allows
from makellos.store.tables import people, sessions, tokens

PASSWORD = "correct horse"  # noqa: S105 -- of nobody
SECOND = 1_000_000


@pytest.fixture
def anna(store: Store) -> Person:
    return store.people.add("anna", PASSWORD, "operator", by="eva")


def test_roles_are_in_order() -> None:
    for i, role in enumerate(ROLES):
        assert [allows(role, needed) for needed in ROLES] == [i >= j for j in range(len(ROLES))]


def test_right_password_lets_in_and_others_do_not(store: Store, anna: Person) -> None:
    assert store.people.check_password("anna", PASSWORD) == anna
    for name, password in (
        ("anna", PASSWORD + " "),
        ("anna", ""),
        ("anna", "x" * 10_000),
        ("Anna", PASSWORD),
        ("nobody", PASSWORD),
        ("a\x00\udc80", PASSWORD),
        ("anna", "\x00\udc80"),
    ):
        assert store.people.check_password(name, password) is None


def test_password_of_any_characters_is_told_from_others(store: Store) -> None:
    odd = "pass\x00word\udc80äöü"
    store.people.add("bert", odd, "viewer", by="eva")
    assert store.people.check_password("bert", odd) is not None
    assert store.people.check_password("bert", "pass") is None


def test_secrets_are_not_in_the_database(store: Store, anna: Person) -> None:
    session, token = (
        store.people.begin_session("anna"),
        store.people.add_token("m", "viewer", by="e"),
    )
    with store._database.reading() as connection:
        told = str([connection.execute(select(t)).all() for t in (people, sessions, tokens)])
    told += str(store.audit.entries())
    assert "$argon2id$" in told
    for secret in (PASSWORD, session.token, token):
        assert secret not in told


def test_default_hasher_is_argon2id_with_strong_parameters(tmp_path: Any) -> None:
    store = Store.open(tmp_path / "station")
    assert isinstance(store.people._hasher, PasswordHasher)
    assert store.people._hasher.type.name == "ID"
    assert store.people._hasher.memory_cost >= 19_456  # KiB, what OWASP asks for at least
    store.close()


def test_hash_with_weaker_parameters_is_renewed_at_the_next_login(
    store: Store, anna: Person, opened: Any
) -> None:
    stronger = opened(hasher=PasswordHasher(time_cost=2, memory_cost=16, parallelism=1))
    assert stronger.people.check_password("anna", PASSWORD) == anna
    with stronger._database.reading() as connection:
        hashed = connection.scalar(select(people.c.password_hash))
    assert "m=16,t=2" in str(hashed)
    assert stronger.people.check_password("anna", PASSWORD) == anna


def test_session_lasts_until_its_end(store: Store, anna: Person, clock: Any) -> None:
    new = store.people.begin_session("anna", seconds=60)
    session = store.people.session(new.token)
    assert session is not None
    assert (session.person, session.csrf, session.expires) == (anna, new.csrf, new.expires)
    assert store.people.session(new.csrf) is None
    clock.now += 60 * SECOND
    assert store.people.session(new.token) is None


@pytest.mark.parametrize("how", ["end", "disable", "password"])
def test_session_ends_early(store: Store, anna: Person, how: str) -> None:
    first, second = store.people.begin_session("anna"), store.people.begin_session("anna")
    if how == "end":
        store.people.end_session(first.token)
    elif how == "disable":
        store.people.disable("anna", by="eva")
    else:
        store.people.set_password("anna", "another horse", by="eva")
    assert store.people.session(first.token) is None
    assert (store.people.session(second.token) is not None) == (how == "end")


def test_session_follows_the_role(store: Store, anna: Person) -> None:
    new = store.people.begin_session("anna")
    store.people.set_role("anna", "viewer", by="eva")
    session = store.people.session(new.token)
    assert session is not None
    assert session.person.role == "viewer"


def test_disabled_person_is_not_let_in_until_enabled(store: Store, anna: Person) -> None:
    store.people.disable("anna", by="eva")
    assert store.people.check_password("anna", PASSWORD) is None
    store.people.disable("anna", by="eva", disabled=False)
    assert store.people.check_password("anna", PASSWORD) is not None


def test_token_lets_in_until_it_is_revoked(store: Store, clock: Any) -> None:
    secret = store.people.add_token("press 3", "operator", by="eva")
    token = store.people.token(secret)
    assert token is not None
    assert (token.name, token.role, token.by, token.revoked) == (
        "press 3",
        "operator",
        "eva",
        False,
    )
    used = store.people.tokens()[0].last_used
    assert used is not None
    store.people.token(secret)
    assert store.people.tokens()[0].last_used == used  # noted once a minute
    clock.now += 60 * SECOND
    store.people.token(secret)
    assert store.people.tokens()[0].last_used != used
    assert store.people.token(secret[:-1]) is None
    store.people.revoke_token("press 3", by="eva")
    assert store.people.token(secret) is None
    with pytest.raises(InputError, match="is or was a token"):
        store.people.add_token("press 3", "operator", by="eva")
    with pytest.raises(NotFoundError, match="Did you mean 'press 3'"):
        store.people.revoke_token("press 4", by="eva")


def test_last_administrator_stays(store: Store) -> None:
    store.people.add("root", PASSWORD, "administrator", by="eva")
    store.people.add("spare", PASSWORD, "administrator", by="eva")
    store.people.disable("spare", by="eva")
    n_entries = len(store.audit.entries())
    for change in (
        lambda: store.people.disable("root", by="eva"),
        lambda: store.people.set_role("root", "engineer", by="eva"),
    ):
        with pytest.raises(InputError, match="last administrator"):
            change()
    assert store.people.get("root") == Person(name="root", role="administrator")
    assert len(store.audit.entries()) == n_entries
    store.people.disable("spare", by="eva", disabled=False)
    store.people.set_role("root", "engineer", by="eva")


def test_every_change_is_in_the_audit_log(store: Store, anna: Person) -> None:
    store.people.set_role("anna", "engineer", by="eva")
    store.people.set_password("anna", "another horse", by="anna")
    store.people.disable("anna", by="eva")
    store.people.add_token("m", "viewer", by="eva")
    store.people.revoke_token("m", by="eva")
    said = [(entry.person, entry.action, entry.subject) for entry in store.audit.entries()]
    assert said[::-1] == [
        ("eva", "person_added", "anna"),
        ("eva", "person_role", "anna"),
        ("anna", "person_password", "anna"),
        ("eva", "person_disabled", "anna"),
        ("eva", "token_added", "m"),
        ("eva", "token_revoked", "m"),
    ]
