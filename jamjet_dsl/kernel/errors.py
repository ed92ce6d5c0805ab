"""The errors of tools and models, by their names: those that every program knows, and what each says of a call."""

from __future__ import annotations

from typing import Any

INDEFINITE = frozenset({"Timeout", "Disconnected", "Crashed", "InvalidOutput"})
"""After one of these nobody knows whether a call that writes happened."""
NOT_SENT = frozenset({"InvalidInput", "RateLimited", "Unavailable"})
"""With one of these nothing was done, so nothing is charged."""
STANDARD_ERRORS = INDEFINITE | NOT_SENT | {"JoinFailed", "ChildFailed"}


class ToolError(Exception):
    """An error with a name that programs can handle: a standard one, or one that the tool `raises`.

    `definite` says that the call certainly had no effect; None lets the language decide by the name.
    """

    def __init__(
        self,
        name: str,
        message: str = "",
        *,
        definite: bool | None = None,
        retry_after_ms: int | None = None,
        usage: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message or name)
        self.name = name
        self.message = message or name
        self.definite = definite
        self.retry_after_ms = retry_after_ms
        self.usage = usage


def named_error(error: BaseException, raises: tuple[str, ...]) -> str | None:
    """Which of the errors that a tool `raises` an exception is: a ToolError by its name, any other by the name of its
    class or of one it derives from."""
    if isinstance(error, ToolError):
        return error.name if error.name in raises else None
    return next((cls.__name__ for cls in type(error).__mro__ if cls.__name__ in raises), None)
