"""200 damaged copies of real images: each is named, or the damage is of a kind that its format cannot show.

What is promised depends on the format, and this is all that is promised:
- cut off anywhere, empty, or not an image at all: named, in every format;
- one flipped bit in a PNG: named, because every byte of a PNG is covered by a checksum or fixed by the format;
- one flipped bit in a JPEG: named when the decoder trips over it, even if it only remarks on it and fills the rest with
  grey; otherwise the bit changed a coefficient or a table into another valid one, which no decoder can know;
- one flipped bit in a deflated TIFF or a WebP: named, or decoded to the full size (no checksum, or none that is read);
- one flipped bit among the pixels of an uncompressed BMP or TIFF: not detectable, decoded to the full size.
Whatever is accepted has the original's size and no flat, never-decoded part.
"""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from visionft.data.decode import pixels
from visionft.data.records import Table
from visionft.data.samples import elpv
from visionft.data.scan import scan
from visionft.data.sources import flat_folder
from visionft.errors import DataError

pytest.importorskip("elpv_dataset")
CELLS = elpv()

FORMATS = {  # name -> extension, how Pillow writes it
    "png": ("png", "PNG", {}),
    "jpeg": ("jpg", "JPEG", {"quality": 90}),
    "progressive": ("jpg", "JPEG", {"quality": 90, "progressive": True}),
    "tiff": ("tif", "TIFF", {}),
    "deflate": ("tif", "TIFF", {"compression": "tiff_adobe_deflate"}),
    "webp": ("webp", "WEBP", {}),
    "bmp": ("bmp", "BMP", {}),
}
NO_CHECKSUM = ("tiff", "bmp")
JUNK = (b"<html><body>404 Not Found</body></html>", b"\x00" * 4096, b"version https://git-lfs.github.com/spec/v1\n")


def original(number: int, name: str, colour: bool) -> bytes:
    image = Image.open(CELLS[number].image)
    bands = [image, image.transpose(Image.Transpose.FLIP_TOP_BOTTOM), image.transpose(Image.Transpose.ROTATE_180)]
    _, form, options = FORMATS[name]
    stream = io.BytesIO()
    (Image.merge("RGB", bands) if colour else image).save(stream, form, **options)
    return stream.getvalue()


def flipped(data: bytes, draw: random.Random, name: str) -> bytes:
    start = 400 if name in NO_CHECKSUM else 0  # a flipped bit in their headers is another valid header
    damaged = bytearray(data)
    damaged[draw.randrange(start, len(data) - start)] ^= 1 << draw.randrange(8)
    return bytes(damaged)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("damaged")
    draw = random.Random(0)
    for number in range(98):
        name = list(FORMATS)[number % len(FORMATS)]
        data = original(number * 20, name, colour=number % 2 == 1)
        cut = data[: -1 - number % 3 if number < 21 else draw.randrange(1, len(data))]  # 21 lose only their last bytes
        for kind, content in (("cut", cut), ("flip", flipped(data, draw, name))):
            (folder / f"{kind}-{name}-{number:03d}.{FORMATS[name][0]}").write_bytes(content)
    for number, content in enumerate((b"", *JUNK)):
        (folder / f"junk-{number}.png").write_bytes(content)
    assert len(list(folder.iterdir())) == 200
    return folder


def kind_and_format(name: str) -> tuple[str, str]:
    kind, form, *_ = Path(name).stem.split("-")
    return kind, form


def test_skipping_lists_every_image_whose_damage_can_be_known(damaged):
    result = scan(flat_folder(damaged), bad="skip")
    accepted = {record.name for record in result.table}
    assert accepted.isdisjoint(result.bad) and len(accepted) + len(result.bad) == 200
    kinds = [kind_and_format(name) for name in accepted]
    assert {kind for kind, _ in kinds} == {"flip"}
    assert "png" not in {form for _, form in kinds}
    assert {form for _, form in kinds} >= set(NO_CHECKSUM)
    assert (
        sum(form in ("jpeg", "progressive") for _, form in map(kind_and_format, result.bad)) > 28 + 4
    )  # not only cuts


def test_what_is_accepted_has_its_full_size_and_no_flat_part(damaged):
    for record in scan(flat_folder(damaged), bad="skip").table:
        image = pixels(record)
        assert image.shape == (300, 300, 3), record.name
        strips = image.reshape(10, 30, 300, 3).std(axis=(1, 2)).max(axis=1)
        assert strips.min() > 0.5, record.name


def test_every_bad_image_is_named_with_its_reason_in_the_error(damaged):
    table = flat_folder(damaged)
    bad = scan(table, bad="skip").bad
    places = [place for place, record in enumerate(table) if record.name in bad]
    for start in range(0, len(places), 10):  # a message lists ten
        part = table.take(places[start : start + 10])
        with pytest.raises(DataError, match=f"{len(part)} of {len(part)} images") as caught:
            scan(part, bad="error")
        assert all(f"{record.name} {bad[record.name]}" in str(caught.value) for record in part)
        assert all(reason.strip() for reason in bad.values())


def test_a_wrong_extension_is_named_and_the_image_used(tmp_path):
    for number, name in enumerate(FORMATS):
        (tmp_path / f"{name}.gif").write_bytes(original(number, name, colour=False))
    result = scan(flat_folder(tmp_path), bad="error")
    assert len(result.table) == len(result.misnamed) == len(FORMATS)


def test_damage_is_found_even_where_a_library_told_pillow_to_tolerate_it(damaged, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    cut = [file for file in sorted(damaged.iterdir()) if file.name.startswith("cut")]
    with pytest.raises(DataError, match="98 of 98"):
        scan(Table.of(cut), bad="error")
    assert ImageFile.LOAD_TRUNCATED_IMAGES


def test_no_damaged_file_crashes_the_decoder_at_any_size_or_channels(damaged):
    for record in flat_folder(damaged):
        for channels, edge in ((1, None), (4, 64)):
            try:
                image = pixels(record, channels=channels, edge=edge)
            except DataError as error:
                assert str(error).startswith(record.name)
            else:
                assert image.dtype == np.uint8 and image.shape[2] == channels
