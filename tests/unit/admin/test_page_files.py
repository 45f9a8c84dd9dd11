"""The files of the live page: light, whole, from nowhere else, and with no way for data to become markup."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[3] / "gateway" / "admin" / "page"
OWN = sorted(path for path in PAGE.iterdir() if path.suffix in {".html", ".js", ".css"})
VENDOR = PAGE / "vendor"
PACKAGES = json.loads((VENDOR / "manifest.json").read_text())
MOST_BYTES = 200_000
MARKUP = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|\beval\(|new Function|@import|srcdoc"
INLINE = r"<script(?![^>]*\bsrc=)|<style|<iframe|\son\w+=|\sstyle="


def named(path: Path) -> str:
    return path.name


def test_the_whole_page_is_light() -> None:
    """Everything that a browser loads, unpacked."""
    served = [*OWN, *(path for path in VENDOR.iterdir() if path.suffix in {".js", ".css"})]
    assert 100_000 < sum(path.stat().st_size for path in served) < MOST_BYTES


@pytest.mark.parametrize("path", OWN, ids=named)
def test_nothing_that_a_caller_sent_can_become_markup(path: Path) -> None:
    """No file of ours has a way to turn text into elements, or a script or style within the document."""
    text = path.read_text()
    assert not re.search(MARKUP, text)
    assert not re.search(INLINE, text if path.suffix == ".html" else "")
    assert not re.search(r"setAttribute\(\s*[\"'](?:style|on)", text)


@pytest.mark.parametrize("path", OWN, ids=named)
def test_the_page_names_no_other_place(path: Path) -> None:
    """No CDN, no font, no beacon: the only addresses are those of the reader's own machine."""
    text = re.sub(r"data:image/[^\"]+", "", path.read_text())
    found = [url for url in re.findall(r"(?:https?:)?//[\w-]+\.[\w.:-]+", text) if "127.0.0.1" not in url]
    assert not found


@pytest.mark.parametrize("path", [path for path in OWN if path.suffix == ".js"], ids=named)
def test_every_module_that_is_asked_for_is_there(path: Path) -> None:
    """A name that is imported is exported by a file beside it."""
    for names, file in re.findall(r"import \{([^}]+)\} from \"\./([\w.]+)\"", path.read_text()):
        exported = (PAGE / file).read_text()
        for name in names.replace(" ", "").split(","):
            assert re.search(rf"export (?:async )?(?:function|const|class) {name}\b", exported), f"{file}: {name}"


@pytest.mark.parametrize("path", [path for path in OWN if path.suffix == ".js"], ids=named)
def test_a_module_says_first_what_it_is_for(path: Path) -> None:
    """And stays an idea long."""
    text = path.read_text()
    assert text.startswith("// ")
    assert text.count("\n") <= 200


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package["name"])
def test_what_others_wrote_is_as_they_wrote_it(package: dict[str, object]) -> None:
    """Name, version, licence and source of each package; the hash of each file, its licence's text among them."""
    assert {"name", "version", "licence", "source", "files"} == set(package)
    files = package["files"]
    assert isinstance(files, dict)
    assert any(name.endswith("LICENSE") for name in files)
    for name, file in files.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == file["sha256"], name


def test_every_file_of_others_is_in_the_manifest() -> None:
    """Nothing is there that nobody can trace."""
    told = {name for package in PACKAGES for name in package["files"]}
    assert {path.name for path in VENDOR.iterdir()} == told | {"manifest.json"}
