"""Models converted for OpenVINO: made from a tiny one, kept, checked, and alike."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import clean_environment
from tests.support.timing import PATIENCE
from trunkline.methods import embeddings
from trunkline.methods.embeddings.model import load_model
from trunkline.methods.local import LocalMethods
from trunkline_protocol.errors import RpcError

np = pytest.importorskip("numpy")
pytest.importorskip("sentence_transformers")
pytest.importorskip("openvino")
pytest.importorskip("nncf")
pytestmark = pytest.mark.ml

TEXTS = ["a b c", "d", "e f g h i j k l m n o p q r s t u v w x y z", "c a b"]


async def vectors(backend: str, model: Path, data: Path) -> tuple[str, Any]:
    settings = {"model": str(model), "embedding_backend": backend, "data_dir": str(data)}
    async with LocalMethods(embeddings, settings=settings) as methods:
        answer = await methods.call("embeddings.create", {"input": TEXTS})
    return answer["model"], np.array([item["embedding"] for item in answer["data"]])


def folder_in(data: Path) -> Path:
    (found,) = (path for path in (data / "models").iterdir() if path.is_dir())
    return found


async def test_a_float_conversion_makes_the_same_vectors_under_the_same_name(tiny_model: Path, tmp_path: Path) -> None:
    name, wanted = await vectors("torch", tiny_model, tmp_path)
    assert not (tmp_path / "models").exists()
    assert (await vectors("auto", tiny_model, tmp_path))[0] == name
    assert not (tmp_path / "models").exists(), "nothing is converted unasked"
    converted_name, found = await vectors("openvino", tiny_model, tmp_path)
    assert converted_name == name
    assert (found * wanted).sum(axis=1) == pytest.approx(1, abs=1e-3)
    again = folder_in(tmp_path).stat().st_mtime_ns
    assert (await vectors("auto", tiny_model, tmp_path))[1] == pytest.approx(found, abs=1e-6)
    assert folder_in(tmp_path).stat().st_mtime_ns == again, "it is used again"


async def test_an_int8_conversion_has_a_name_of_its_own_and_is_alike(tiny_model: Path, tmp_path: Path) -> None:
    name, wanted = await vectors("torch", tiny_model, tmp_path)
    int8_name, found = await vectors("openvino-int8", tiny_model, tmp_path)
    assert int8_name == f"{name}#int8"
    assert (found * wanted).sum(axis=1).min() > 0.9
    assert np.linalg.norm(found, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a conversion in it, made by the command. Copy it."""
    data = tmp_path_factory.mktemp("made")
    command = [sys.executable, "-m", "trunkline.cli", "convert-model", "--data", str(data)]
    env = clean_environment({"TRUNKLINE_MODEL": str(tiny_model)})
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=6 * PATIENCE)
    assert done.returncode == 0, done
    assert "hubs with this data folder use it after their next start" in done.stdout
    files = [path for path in (data / "models").rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}, "they are for their user alone"
    return data


async def test_a_changed_file_is_not_loaded(tiny_model: Path, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    weights = folder_in(tmp_path) / "model.bin"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(RpcError, match=r"model.bin changed since it was made; delete that folder") as caught:
        load_model(str(tiny_model), "openvino", str(tmp_path))
    assert caught.value.code == 3002


async def test_what_a_killed_conversion_left_is_no_model(tiny_model: Path, made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    folder = folder_in(tmp_path)
    partial = folder.with_name(f"{folder.name}.partial")
    folder.rename(partial)
    (partial / "manifest.json").unlink()
    (partial / "model.bin").write_bytes(b"half")
    await vectors("openvino", tiny_model, tmp_path)
    assert folder_in(tmp_path) == folder


def test_of_two_processes_one_converts(tiny_model: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from trunkline.methods.embeddings.model import load_model; "
        "print(load_model(sys.argv[1], 'openvino', sys.argv[2]).name)"
    )
    command = [sys.executable, "-c", code, str(tiny_model), str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=6 * PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert sum(err.count("converting model@") for _out, err in said) == 1


def test_a_backend_that_is_not_installed_says_what_to_install(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(RpcError, match=r"pip install 'trunkline\[openvino\]'") as caught:
        load_model(str(tiny_model), "openvino", str(tmp_path))
    assert caught.value.code == 4002
