"""Writes the rule files of contrib/prometheus from the catalogue: ``python tools/prometheus_rules.py [--check]``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from kvmscope.engines.prometheus.rules import rule_files, write_rules

FOLDER: Final = Path(__file__).parent.parent / "contrib/prometheus"


def main() -> int:
    wrong = []
    for file in rule_files():
        path, text = FOLDER / f"{file.name}.rules.yml", write_rules(file)
        if "--check" not in sys.argv:
            path.write_text(text, encoding="utf-8")
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            wrong.append(path.name)
    if wrong:
        sys.stderr.write(f"not as the catalogue has it: {', '.join(wrong)}; run python tools/prometheus_rules.py\n")
    return len(wrong)


if __name__ == "__main__":
    sys.exit(main())
