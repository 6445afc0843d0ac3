"""The one exception for mistakes that the user can mend."""

from __future__ import annotations


class UserError(ValueError):
    """A mistake in a file, a folder or an option; its message says which one and what to do."""
