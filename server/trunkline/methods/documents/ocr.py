"""The words of pictures, as the program tesseract recognises them where it is installed."""

from __future__ import annotations

import io
import shutil
import subprocess
from typing import Any, Final

from trunkline.methods.documents.blocks import FileText, TextBuilder, Unreadable, clean, paragraphs_of
from trunkline.methods.documents.html import reading_as

PROGRAM: Final = "tesseract"
MAX_PIXELS: Final = 100_000_000
MAX_SCANNED_PAGES: Final = 200
NOTE: Final = "its text was recognised in pictures (OCR)"
MISSING: Final = f"install {PROGRAM} (tesseract-ocr) on the hub's machine, or recognise its text first (OCR)"


def is_installed() -> bool:
    """Whether words of pictures can be recognised on this machine."""
    return shutil.which(PROGRAM) is not None


def read_image(data: bytes) -> FileText:
    """The words of a picture.

    Raises:
        Unreadable: damaged, too large, without words, or the program is missing.
    """
    if not is_installed():
        raise Unreadable(f"it is a picture: {MISSING}")
    with reading_as("a picture"):
        text = recognised(_opened(data))
    if not text.strip():
        raise Unreadable("no words were recognised in it")
    return FileText(None, text, paragraphs_of(text), note=NOTE)


def read_scanned(reader: Any) -> FileText | None:
    """The words in the pictures of a PDF's pages; None where nothing was recognised.

    Raises:
        Unreadable: it has no text, and too many pages; or the program is missing.
    """
    if not is_installed():
        raise Unreadable(f"there is no text in it: its pages are pictures; {MISSING}")
    if len(reader.pages) > MAX_SCANNED_PAGES:
        raise Unreadable(f"it has more than {MAX_SCANNED_PAGES} pages of pictures: recognise its text first (OCR)")
    built, starts = TextBuilder(), []
    with reading_as("a scanned PDF"):
        for page in reader.pages:
            starts.append(built.length + 2 if built.blocks else 0)
            for image in page.images:
                text = recognised(_checked(image.image))
                for block in paragraphs_of(text):
                    built.add("paragraph", text[block.start : block.end])
    return built.build(note=NOTE, pages=starts) if built.blocks else None


def _opened(data: bytes) -> Any:
    from PIL import Image

    return _checked(Image.open(io.BytesIO(data)))


def _checked(image: Any) -> Any:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise Unreadable(f"it has {width:,} x {height:,} pixels, more than {MAX_PIXELS:,}: make it smaller")
    return image


def recognised(image: Any) -> str:
    """The words of one picture. The program is ended with this process, whose time is limited."""
    sent = io.BytesIO()
    image.convert("L").save(sent, "PNG")
    done = subprocess.run(  # noqa: S603
        [PROGRAM, "stdin", "stdout"], input=sent.getvalue(), capture_output=True, check=False
    )
    if done.returncode:
        raise Unreadable(f"{PROGRAM} has failed: {done.stderr.decode(errors='replace').strip():.200}")
    return clean(done.stdout.decode(errors="replace").replace("\f", ""))
