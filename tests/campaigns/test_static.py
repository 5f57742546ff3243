"""What is vendored is what was published, and its compressed copies are the same."""

from __future__ import annotations

import gzip
import hashlib
import re
from pathlib import Path

import pytest
from django.conf import settings

VENDOR = Path(settings.BASE_DIR) / "static" / "vendor"
FOLDERS = sorted(path for path in VENDOR.iterdir() if path.is_dir())


def test_something_is_vendored() -> None:
    assert [folder.name for folder in FOLDERS] == ["bootstrap-5.3.9", "htmx-2.0.11"]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_file_has_the_hash_it_was_vendored_with(folder: Path) -> None:
    listed = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())
    present = {path.name for path in folder.iterdir()} - {"SHA256SUMS"}
    assert present == set(listed)
    assert listed == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in listed}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_file_that_is_served_has_its_licence_and_a_compressed_copy(folder: Path) -> None:
    assert (folder / "LICENSE").read_text().strip()
    served = [path for path in folder.iterdir() if path.suffix in (".css", ".js")]
    assert served
    for path in served:
        assert gzip.decompress(path.with_name(path.name + ".gz").read_bytes()) == path.read_bytes()


def test_pages_load_the_vendored_versions_and_nothing_from_elsewhere() -> None:
    for template in (Path(settings.BASE_DIR) / "templates").rglob("*.html"):
        text = template.read_text()
        assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", text.replace("&lt;", "")), template
        for path in re.findall(r"static 'vendor/([^/]+)/([^']+)'", text):
            assert VENDOR.joinpath(*path).is_file(), path


def test_no_page_has_inline_script_or_style() -> None:
    """The policy refuses them, and Django's tests would not notice."""
    for template in (Path(settings.BASE_DIR) / "templates").rglob("*.html"):
        text = template.read_text()
        assert not re.search(r"<style|<script(?![^>]*\bsrc=)|\bstyle=|\bon[a-z]+=|hx-on|javascript:", text), template
