# SPDX-License-Identifier: Apache-2.0
"""The demo page in a browser, and its server beside a run that grows."""

import json
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
from types import SimpleNamespace

import pytest

from perceiver_jax.errors import ConfigError
from perceiver_jax.reports import demo
from tests.reports.attention_files import write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BROWSER = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--virtual-time-budget=60000")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), "image")


def flags(**changed):
    return SimpleNamespace(**{"serve": False, "port": 0} | changed)


def test_the_page_is_one_file_that_loads_nothing(run):
    (file,) = demo.write(run, ("png",), flags())
    page = file.read_text()
    assert file == run / "figures" / "demo.html" and file.stat().st_size < 6e6
    assert not re.search(r"<(?:script|img)[^>]*src=", page) and "content=\"default-src 'none'" in page
    assert not re.search("@(?:TITLE|PLOTLY|SCRIPT)@", page)
    data = re.search('<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1]
    assert [example["title"] for example in json.loads(data)["examples"]] == ["1: cat </script>", "2: 개 @DATA@"]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium; the demo page was not tried")
def test_in_a_browser_every_control_changes_the_picture_and_nothing_is_asked_for(run, tmp_path):
    (file,) = demo.write(run, ("png",), flags())
    command = [CHROMIUM, *BROWSER, *OFFLINE, f"--user-data-dir={tmp_path}", "--dump-dom", f"{file.as_uri()}#selfcheck"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    found = re.search('<pre id="selfcheck">(.*?)</pre>', done.stdout)
    assert found, done.stderr[-2000:]
    result = json.loads(found[1])
    assert result["steady"] and result["changed"] == dict.fromkeys(result["changed"], True), result
    assert set(result["changed"]) == {"example", "stage", "head", "latent", "colormap", "alpha", "left", "right"}
    assert result["saved"] == ["data:image/png;bas", "data:image/svg+xml"]
    assert result["asked"] == [] and result["problems"] == []
    assert "CONSOLE" not in done.stderr or not re.search("CONSOLE.*(?:[Ee]rror|[Rr]efused)", done.stderr), done.stderr


def test_the_server_gives_what_is_new_to_this_machine_alone(tmp_path):
    run = write_run(tmp_path, "points", steps=(8,))
    with demo._Server(run, 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"

        def get(path, **headers):
            try:
                with urllib.request.urlopen(
                    urllib.request.Request(address + path, headers=headers), timeout=30
                ) as answer:
                    return answer.status, answer.read()
            except urllib.error.HTTPError as error:
                return error.code, b""

        status, page = get("/")
        assert status == 200 and b"Plotly" in page and server.server_address[0] == "127.0.0.1"
        status, content = get("/data.json")
        version = json.loads(content)["version"]
        assert get(f"/data.json?have={version}") == (204, b"")
        write_run(run, "points", steps=(8, 16))
        status, content = get(f"/data.json?have={version}")
        assert status == 200 and json.loads(content)["epochs"] == [1, 2]
        assert get("/config.json")[0] == get("/../config.json")[0] == 404
        assert get("/", Host="elsewhere.example")[0] == 403
        with pytest.raises(ConfigError, match="cannot be used"):
            demo.serve(run, server.server_port)
        server.shutdown()


def test_a_run_without_maps_leaves_nothing_behind(tmp_path):
    with pytest.raises(ConfigError, match="has no attention maps"):
        list(demo.write(tmp_path, ("png",), flags()))
    assert list(tmp_path.iterdir()) == []
