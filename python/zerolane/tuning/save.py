"""Writes `tuned.toml`; `zerolane.model.tuned` reads it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerolane.engine.atomic import write_atomic
from zerolane.errors import InvalidArgument, NotFound
from zerolane.model.tuned import VERSION

if TYPE_CHECKING:
    from zerolane.tuning.result import TuneResult


def save(result: TuneResult, path: Path) -> None:
    """Write the best setting, and the artefact beside it where the folder will not last."""
    if not path.parent.is_dir():
        raise NotFound(
            f"writing {path.name!r}: there is no folder {str(path.parent)!r} (in "
            f"{os.getcwd()!r}); make it first",
            str(path),
        )
    row = result.best
    setting = row.setting
    facts = result.files[setting.artefact]
    lines = [
        "# How to run the model, as zerolane.tune measured it: zl.load(model, tuned=this file).",
        f"version = {VERSION}",
        "",
        "[model]",
        f"name = {_text(result.source)}",
        f"sha256 = {_text(result.model['sha256'])}",
    ]
    external = result.model["external_data"]
    if external:
        lines += ["", "[model.external_data]"]
        lines += [f"{_text(name)} = {_text(digest)}" for name, digest in external.items()]
    lines += ["", "[artefact]", f"made_by = {_text(setting.artefact)}"]
    if setting.artefact != "original":
        lines += [
            f"path = {_text(_place(result, str(facts['file']), path))}",
            f"sha256 = {_text(facts['sha256'])}",
        ]
    lines += ["", "[load]", f"backend = {_text(setting.backend)}"]
    if setting.backend == "onnxruntime":
        lines += [f"graph_level = {_text(setting.graph_level)}", f"threads = {setting.threads}"]
    if setting.build:
        lines += ["", "[load.build]"]
        lines += [f"{name} = {json.dumps(value)}" for name, value in setting.build]
    lines += [
        "",
        "[use]  # what zl.load cannot do for you: zl.Lanes(session, lanes), rows a call",
        f"lanes = {setting.lanes}",
        f"batch = {setting.batch}  # 0: as the samples were",
        "",
        "[measured]",
        f"goal = {_text(result.goal)}",
        f"p50_ms = {row.p50_ms:.6g}",
        f"p99_ms = {row.p99_ms:.6g}",
        f"rows_per_s = {row.rows_per_s:.6g}",
        f"speedup = {row.speedup:.4g}",
        f"metric = {_text(result.metric)}",
        f"accuracy = {row.accuracy:.6g}",
        *(f"{name} = {_value(value)}" for name, value in result.environment.items()),
    ]
    try:
        write_atomic(path, ["\n".join([*lines, ""]).encode()])
    except OSError as error:
        raise InvalidArgument(
            f"writing {str(path)!r}: {error.strerror or error}, expected a file that can be "
            "written; choose another place",
            str(path),
        ) from error


def _place(result: TuneResult, file: str, path: Path) -> str:
    """The artefact's path relative to the TOML file's folder."""
    source = result.folder / file
    home = path.resolve().parent
    if result._scratch is not None:
        for name in (file, file + ".data"):
            part = result.folder / name
            if part.exists() and part.resolve() != home / name:
                shutil.copyfile(part, home / f".{name}.part")
                os.replace(home / f".{name}.part", home / name)
        return file
    return Path(os.path.relpath(source.resolve(), home)).as_posix()


def _text(value: Any) -> str:
    # A JSON string is a basic string of TOML but for DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    return str(value) if type(value) is int else _text(value)
