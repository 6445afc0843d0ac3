"""PLVL: Progressive language-guided visual learning for multi-task visual grounding.

The model is not in this release yet; this package reserves its name, its command and its place in the tree.
"""

from __future__ import annotations

__version__ = "0.1.0"
