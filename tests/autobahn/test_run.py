from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.autobahn import run


def program(path: Path, *, is_python2: bool = True, has_pip: bool = True) -> str:
    """Something that answers the questions asked of a Python."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\ncase "$2" in *version_info*) echo {is_python2};; *) echo {has_pip};; esac\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with nothing on its path, and no pyenv."""
    monkeypatch.delenv("PYTHON2", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return tmp_path


def test_without_a_python2_it_skips_and_says_what_is_missing(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run.main([]) == 0
    said = capsys.readouterr().out
    assert said.startswith("SKIPPED: no Python 2.7")
    assert "PYTHON2" in said
    assert "pyenv install" in said


def test_the_environment_decides(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(bare / "bin" / "python2.7")
    mine = program(bare / "mine")
    monkeypatch.setenv("PYTHON2", mine)
    assert run.find_python2() == mine


@pytest.mark.parametrize("value", ["/nowhere/python", "mine"])
def test_what_the_environment_names_must_be_one(bare: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    program(bare / "bin" / "mine", is_python2=False)
    monkeypatch.setenv("PYTHON2", value)
    with pytest.raises(run.Skipped, match=r"PYTHON2=.* is not a Python 2\.7"):
        run.find_python2()


def test_one_on_the_path(bare: Path) -> None:
    found = program(bare / "bin" / "python2.7")
    assert run.find_python2() == found


def test_one_of_pyenv(bare: Path) -> None:
    program(bare / "pyenv" / "versions" / "2.7.9" / "bin" / "python")
    program(bare / "pyenv" / "versions" / "3.11.7" / "bin" / "python", is_python2=False)
    assert run.find_python2().endswith("2.7.9/bin/python")


def test_one_without_pip_is_named(bare: Path) -> None:
    found = program(bare / "bin" / "python2.7", has_pip=False)
    with pytest.raises(run.Skipped, match="has no pip") as skipped:
        run.find_python2()
    assert found in str(skipped.value)
