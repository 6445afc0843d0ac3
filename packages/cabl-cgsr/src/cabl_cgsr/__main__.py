from __future__ import annotations

from cabl_cgsr.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
