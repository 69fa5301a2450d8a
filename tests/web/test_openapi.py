"""The OpenAPI description, by programs that are not ours: one validates it, one asks what it allows and forbids.

``KVMSCOPE_API_EXAMPLES`` says how many requests are made up for each path, beside those that cover its parameters.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from crafted import Crafted
from monitoring import wait_for

from kvmscope.web.server.answers import PREFIX
from kvmscope.web.server.openapi import openapi

EXAMPLES = os.environ.get("KVMSCOPE_API_EXAMPLES", "2")
SCHEMATHESIS = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
ENDLESS = f"{PREFIX}/events"
"""An answer that does not end takes seconds of each request; tests of the API read it."""


def test_the_description_is_valid_openapi() -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(json.loads(json.dumps(openapi())))


@pytest.mark.slow
def test_made_up_requests_find_nothing_wrong(serve: Any, crafted: Crafted, tmp_path: Path) -> None:
    if SCHEMATHESIS is None:
        pytest.skip("schemathesis is not installed: the extra test")
    served = serve([crafted.before, crafted.after])
    wait_for(lambda: served.monitor.last)
    url = f"http://127.0.0.1:{served.port}{PREFIX}/openapi.json"
    command = [SCHEMATHESIS, "run", url, "--exclude-path", ENDLESS, "--max-examples", EXAMPLES, "--no-color"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"[1-9][0-9]+ generated, [0-9]+ passed", done.stdout), done.stdout
