"""The roles in the claims of a JWT (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from homeroom.identity import Role, parse_roles

DEFAULT_CLAIM = "roles"
_MAX_WORDS = 1_000


@dataclass(frozen=True, slots=True)
class RoleClaim:
    """The claim that holds roles, and the meaning of its words."""

    path: str = DEFAULT_CLAIM
    """The name of a claim, or a path of names divided by dots. A claim whose whole name is the path
    comes first: such names may be URLs, with dots of their own."""
    words: Mapping[str, frozenset[Role]] | None = None
    """The roles of the platform's words; no other word counts. None: the words are role names."""
    default: Role | None = None
    """The role of a valid token without any."""

    def roles_of(self, claims: Mapping[str, Any]) -> tuple[frozenset[Role], str | None]:
        """Return the roles of a token, and why it has none of its own.

        The reason names the claim and never its content.
        """
        value = find_claim(claims, self.path)
        roles, reason = self._parse(value)
        if not roles and self.default is not None:
            return frozenset({self.default}), None
        return roles, reason

    def add_to(self, claims: dict[str, Any], role: Role) -> None:
        """Write a role into the claims of a new token, so that ``roles_of`` returns it.

        Raises ``ValueError`` if no word stands for the role.
        """
        word = role.value
        if self.words is not None:
            words = [each for each, roles in self.words.items() if role in roles]
            if not words:
                raise ValueError(f"no word stands for the role {role}")
            word = min(words, key=lambda each: len(self.words[each]) if self.words else 0)
        is_url = "://" in self.path
        *parents, name = [self.path] if is_url else self.path.split(".")
        target = claims
        for parent in parents:
            target = target.setdefault(parent, {})
        target.setdefault(name, []).append(word)

    def _parse(self, value: object) -> tuple[frozenset[Role], str | None]:
        if value is None:
            return frozenset(), f"its claim `{self.path}` is missing"
        names = value.split() if isinstance(value, str) else value
        if not isinstance(names, list):
            return frozenset(), f"its claim `{self.path}` is neither a list nor text"
        found = [name for name in names[:_MAX_WORDS] if isinstance(name, str)]
        if self.words is None:
            roles = parse_roles(found)
        else:
            roles = frozenset[Role]().union(*(self.words.get(name, ()) for name in found))
        known = "of HOMEROOM_JWT_ROLE_MAP" if self.words is not None else "that is a role here"
        reason = f"its claim `{self.path}` holds no word {known} (words: {len(found)})"
        return roles, None if roles else reason


def find_claim(claims: Mapping[str, Any], path: str) -> object:
    """Return the value of a claim by its name or by a path of names, or None."""
    if path in claims:
        return claims[path]
    value: object = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
