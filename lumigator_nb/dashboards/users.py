"""The name of the logged-in user, for showing only."""

from __future__ import annotations

import panel as pn
from tornado.web import decode_signed_value

USER_COOKIE = "lumigator_user"


def signed_in() -> str | None:
    """Return the name of the logged-in user, "" after a login by token, None without a login.

    Access is decided by the server before a page is made; this cookie only names the user.
    """
    cookie = pn.state.cookies.get(USER_COOKIE)
    if cookie is None or pn.config.cookie_secret is None:
        return None
    name = decode_signed_value(pn.config.cookie_secret, USER_COOKIE, cookie)
    return None if name is None else name.decode()
