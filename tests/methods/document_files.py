"""Real files for tests of documents, made as their programs make them."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import docx
import pypdf
from reportlab.pdfgen.canvas import Canvas
from tokenizers import Tokenizer, models, pre_tokenizers, processors


def pdf(*pages: str, title: str | None = None, password: str | None = None) -> bytes:
    file = io.BytesIO()
    canvas = Canvas(file)
    if title is not None:
        canvas.setTitle(title)
    for page in pages:
        for row, line in enumerate(page.splitlines()):
            canvas.drawString(72, 720 - 14 * row, line)
        canvas.showPage()
    canvas.save()
    if password is None:
        return file.getvalue()
    writer = pypdf.PdfWriter(file)
    writer.encrypt(password, algorithm="AES-256")
    locked = io.BytesIO()
    writer.write(locked)
    return locked.getvalue()


def word_document(*paragraphs: str, heading: str | None = None, title: str | None = None) -> bytes:
    document = docx.Document()
    document.core_properties.title = title or ""
    if heading is not None:
        document.add_heading(heading, 1)
    for paragraph in paragraphs:
        document.add_paragraph(paragraph)
    file = io.BytesIO()
    document.save(file)
    return file.getvalue()


def bomb() -> bytes:
    """A docx of 300 kB whose text unpacks to 300 MB."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        with archive.open("word/document.xml", "w") as member:
            for _ in range(300):
                member.write(b" " * 2**20)
    return file.getvalue()


def word_model(folder: Path, *, reads: int = 32) -> str:
    """A model's folder with just its tokenizer: a token is a word or a mark, and each text has two marks more."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    tokenizer.enable_truncation(16)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": reads}))
    return str(folder)
