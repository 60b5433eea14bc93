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
from perceiver_jax.reports.demo_data import demo_data
from tests.reports.attention_files import write_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
BROWSER = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",)
WATCHED = ("--enable-logging=stderr", "--virtual-time-budget=60000")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no chromium (apt-get install chromium): the demo page was not tried in a browser"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), "image")


def flags(**changed):
    look = {"colormap": "plasma", "alpha": 0.6, "stage": None, "head": None, "fusion": "mean", "rollout": False}
    return SimpleNamespace(**look | {"epochs": [], "serve": False, "port": 0} | changed)


def test_the_page_is_one_file_that_loads_nothing(run):
    paper, file = demo.write(run, ("pdf",), flags())
    assert paper == run / "figures" / "demo.pdf" and paper.read_bytes().startswith(b"%PDF")
    page = file.read_text()
    assert file == run / "figures" / "demo.html" and file.stat().st_size < 6e6
    assert not re.search(r"<(?:script|img)[^>]*src=", page) and "content=\"default-src 'none'" in page
    assert not re.search("@(?:TITLE|PLOTLY|SCRIPT)@", page)
    data = re.search('<script id="data" type="application/json">(.*?)</script>', page, re.DOTALL)[1]
    assert [example["title"] for example in json.loads(data)["examples"]] == ["1: cat </script>", "2: 개 @DATA@"]


def browse(address, folder):
    """The page as the browser left it, and what it said."""
    command = [CHROMIUM, *BROWSER, *OFFLINE, *WATCHED, f"--user-data-dir={folder}", "--dump-dom", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    return done.stdout, done.stderr


@needs_chromium
def test_in_a_browser_every_control_changes_the_picture_and_nothing_is_asked_for(run, tmp_path):
    file = run / "demo.html"
    file.write_text(demo.page(demo_data(run, demo.chosen_pair(run, ["1", "3"]))))
    page, said = browse(f"{file.as_uri()}#selfcheck", tmp_path)
    found = re.search('<pre id="selfcheck">(.*?)</pre>', page)
    assert found, said[-2000:]
    result = json.loads(found[1])
    assert result["steady"] and result["changed"] == dict.fromkeys(result["changed"], True), result
    assert set(result["changed"]) == {"example", "stage", "head", "latent", "colormap", "alpha", "left", "right"}
    assert result["saved"] == ["data:image/png;bas", "data:image/svg+xml"]
    assert result["asked"] == [] and result["problems"] == []
    assert not re.search("CONSOLE.*(?:error|refused)", said, re.IGNORECASE), said


@needs_chromium
def test_a_served_page_follows_the_run_by_itself(tmp_path):
    run = write_run(tmp_path / "run", "sequence", steps=(8,))

    class Growing(demo._Answers):
        def do_GET(self):
            super().do_GET()
            write_run(run, "sequence", steps=(8, 16))  # the training goes on once the page is there

    with demo._Server(run, 0) as server:
        server.RequestHandlerClass = Growing
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page, said = browse(f"http://127.0.0.1:{server.server_port}/", tmp_path / "browser")
        server.shutdown()
    assert re.search('id="right-value"[^>]*>epoch 2<', page), said[-2000:]
    assert "live; newest: epoch 2" in page


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


def test_the_two_epochs_are_chosen_among_those_with_maps(run):
    assert demo.chosen_pair(run, []) == (8, 24) and demo.chosen_pair(run, ["3", "2"]) == (24, 16)
    for words in (["1"], ["1", "9"], ["1", "2", "3"], ["x", "1"]):
        with pytest.raises(ConfigError, match="expected two of those with attention maps, 1, 2, 3"):
            demo.chosen_pair(run, words)
