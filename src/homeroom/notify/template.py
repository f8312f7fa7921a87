"""Message templates: title, text and HTML in the recipient's language.

The first line of a type's ``.txt`` is the title; the next paragraph is the summary, which the inbox
and short messages show. Templates run in Jinja's sandbox; files of the folder that the operator
names replace built-in ones, and those of a programme's folder replace both. A language is one file
``locale/xx.po``.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from homeroom.notify.message_texts import RenderedMessage
from homeroom.notify.school import School


class MessageTemplates:
    """The templates of all types in all languages."""

    def __init__(
        self,
        folder: Path | None = None,
        sender: str = "Homeroom",
        postal_address: str | None = None,
        *,
        school: School | None = None,
        programmes: Mapping[str, School] = MappingProxyType({}),
    ) -> None:
        """Configure a folder that overrides built-in templates, and the sender.

        Name and postal address of the sender are in the footer of every mail. ``school`` is the
        sender with colour, logo and links; ``programmes`` has by id those that have their own.
        """
        self._folder = folder
        self._school = school or School(sender, postal_address)
        self._programmes = programmes

    @cached_property
    def _renderer(self) -> Any:
        """Load the renderer at the first message: until then its memory is saved."""
        return import_module("homeroom.notify.rendering").Renderer(
            self._folder, self._school, self._programmes
        )

    def render(
        self,
        name: str,
        params: Mapping[str, Any],
        *,
        locale: str | None = None,
        given_name: str | None = None,
        unsubscribe_url: str | None = None,
        with_body: bool = True,
        programme_id: str | None = None,
    ) -> RenderedMessage:
        """Return a message's texts; without ``with_body`` only the title and the summary.

        A message about a programme has the look and the templates of that programme. Raises
        ``jinja2.TemplateError`` for a faulty template of the operator's folder.
        """
        rendered: RenderedMessage = self._renderer.render(
            name,
            params,
            locale=locale,
            given_name=given_name,
            unsubscribe_url=unsubscribe_url,
            with_body=with_body,
            programme_id=programme_id,
        )
        return rendered

    def preview_page(self, rendered: RenderedMessage, *, locale: str | None) -> str:
        """Return a page with HTML and text of a message beside each other."""
        page: str = self._renderer.preview_page(rendered, locale=locale)
        return page

    def unsubscribe_page(
        self, message_type: str | None, *, locale: str | None, with_button: bool
    ) -> str:
        """Return the page of an unsubscribe link, before or after its button was used.

        Without ``message_type`` the page says that the link is not valid.
        """
        page: str = self._renderer.unsubscribe_page(
            message_type, locale=locale, with_button=with_button
        )
        return page
