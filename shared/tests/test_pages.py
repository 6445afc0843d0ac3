from __future__ import annotations

from pathlib import Path

import pytest

from papers_shared.errors import UserError
from papers_shared.pages import check_page, page


def test_only_a_page_of_the_same_headline_is_replaced(tmp_path: Path) -> None:
    file = tmp_path / "new" / "index.html"
    check_page(file, "A & B")
    file.write_text(page("A & B", "lead", [], "end"), encoding="utf-8")
    check_page(file, "A & B")
    for content in (page("Another", "lead", [], "end"), "<h1>mine</h1>"):
        file.write_text(content, encoding="utf-8")
        with pytest.raises(UserError, match="is no page of this command"):
            check_page(file, "A & B")
