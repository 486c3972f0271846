"""One picture file: every sample format means what its file says, or is refused by name."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torchvision
from PIL import Image, TiffImagePlugin
from timm.data import create_transform
from torchvision.transforms import InterpolationMode, functional

from harness.data.picture import LARGEST, read_image
from harness.errors import UsageError
from harness.models.architectures import image_size_of, published_resize

LEVELS = np.array([[0, 1, 77], [128, 200, 255]], np.uint8)
DEEP = LEVELS.astype(np.uint16) * 257  # 65,535 is white
COLOUR = np.stack([LEVELS, LEVELS[::-1], 255 - LEVELS], axis=2)


def png(path: Path, samples: np.ndarray, colour_type: int, bits: int = 16) -> None:
    """A PNG by hand: Pillow writes none of 16-bit colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = samples.astype(">u2" if bits == 16 else np.uint8).reshape(len(samples), -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", samples.shape[1], len(samples), bits, colour_type, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b""))


def tiff(path: Path, samples: np.ndarray, **tags: int) -> None:
    directory = TiffImagePlugin.ImageFileDirectory_v2()
    for name, value in tags.items():
        directory[{"photometric": 262}[name]] = value
    Image.fromarray(samples).save(path, tiffinfo=directory)


def big_endian(path: Path) -> None:
    """A grey TIFF of 16 bits with the most significant byte first."""
    entries = [(256, 3), (257, 2), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 2), (279, DEEP.nbytes)]
    data = DEEP.astype(">u2").tobytes()
    directory = b"".join(
        struct.pack(">HHI", tag, 4 if tag in (273, 279) else 3, 1)
        + (struct.pack(">I", v) if tag in (273, 279) else struct.pack(">HH", v, 0))
        for tag, v in entries
    )
    path.write_bytes(b"MM\0*" + struct.pack(">I", 8 + len(data)) + data + struct.pack(">H", len(entries)) + directory + b"\0\0\0\0")


def pgm(path: Path, maximum: int) -> None:
    values = np.rint(LEVELS / 255 * maximum)
    path.write_bytes(b"P5 3 2 %d\n" % maximum + values.astype(">u2" if maximum > 255 else np.uint8).tobytes())


GREY: dict[str, tuple[str, Callable[[Path], None]]] = {
    "8-bit PNG": ("png", lambda path: Image.fromarray(LEVELS).save(path)),
    "16-bit PNG": ("png", lambda path: png(path, DEEP, 0)),
    "16-bit PNG with alpha": ("png", lambda path: png(path, np.stack([DEEP, np.full_like(DEEP, 65535)], 2), 4)),
    "16-bit TIFF": ("tif", lambda path: tiff(path, DEEP)),
    "16-bit TIFF, big-endian": ("tif", big_endian),
    "16-bit TIFF, white is 0": ("tif", lambda path: tiff(path, 65535 - DEEP, photometric=0)),
    "8-bit PGM": ("pgm", lambda path: pgm(path, 255)),
    "12-bit PGM": ("pgm", lambda path: pgm(path, 4095)),
    "16-bit PGM": ("pgm", lambda path: pgm(path, 65535)),
}
RGB: dict[str, tuple[str, Callable[[Path], None]]] = {
    "8-bit PNG": ("png", lambda path: Image.fromarray(COLOUR).save(path)),
    "8-bit PNG with alpha": ("png", lambda path: Image.fromarray(np.dstack([COLOUR, np.full((2, 3), 9, np.uint8)])).save(path)),
    "palette": ("png", lambda path: Image.fromarray(COLOUR).quantize(6, dither=Image.Dither.NONE).save(path)),
    "16-bit PNG": ("png", lambda path: png(path, COLOUR.astype(np.uint16) * 257, 2)),
    "16-bit PNG with alpha": ("png", lambda path: png(path, np.dstack([COLOUR, LEVELS]).astype(np.uint16) * 257, 6)),
}


@pytest.mark.parametrize("case", GREY)
def test_grey_samples_of_any_depth_become_bytes(case: str, tmp_path: Path) -> None:
    suffix, write = GREY[case]
    write(tmp_path / f"a.{suffix}")
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}", (1, 2, 3))[..., 0], LEVELS)
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}", None), np.repeat(LEVELS[..., None], 3, axis=2))


@pytest.mark.parametrize("case", RGB)
def test_colour_samples_of_any_depth_become_bytes(case: str, tmp_path: Path) -> None:
    suffix, write = RGB[case]
    write(tmp_path / f"a.{suffix}")
    assert np.array_equal(read_image(tmp_path / f"a.{suffix}", (3, 2, 3)), COLOUR)


def test_every_16_bit_value_is_rounded_to_the_nearest_level(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    png(tmp_path / "a.png", values, 0)
    expected = np.floor(values / 65535 * 255 + 0.5)
    assert np.array_equal(read_image(tmp_path / "a.png", (1, 256, 256))[..., 0], expected)


REFUSED = {
    "float": (np.float32, "has floating-point samples"),
    "signed 32-bit": (np.int32, "has signed 32-bit samples"),
    "unsigned 32-bit": (np.uint32, "has unsigned 32-bit samples"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_samples_without_a_known_white_are_refused_by_name(case: str, tmp_path: Path) -> None:
    dtype, message = REFUSED[case]
    values = LEVELS.astype(dtype) / 255 if dtype == np.float32 else LEVELS.astype(np.int32)
    Image.fromarray(values).save(tmp_path / "deep.tif")
    if dtype == np.uint32:
        content = bytearray((tmp_path / "deep.tif").read_bytes())
        at = content.index(struct.pack("<HH", 339, 3))
        content[at + 8] = 1  # SampleFormat: unsigned
        (tmp_path / "deep.tif").write_bytes(content)
    with pytest.raises(UsageError, match=rf"deep\.tif {message}"):
        read_image(tmp_path / "deep.tif", (1, 2, 3))


def test_what_is_dropped_is_counted(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save(tmp_path / "turned.png", exif=exif)
    RGB["8-bit PNG with alpha"][1](tmp_path / "alpha.png")
    seen: Counter[str] = Counter()
    turned = read_image(tmp_path / "turned.png", None, seen)
    read_image(tmp_path / "alpha.png", None, seen)
    assert np.array_equal(turned, COLOUR), "as torchvision's ImageFolder reads it"
    assert sorted(what.split(",")[0] for what in seen.elements()) == ["carry a camera's turn (EXIF orientation)", "have an alpha channel"]


@pytest.mark.filterwarnings("error")
def test_a_palette_with_transparency_is_read_without_a_warning(tmp_path: Path) -> None:
    picture = Image.fromarray(COLOUR).quantize(4)
    picture.save(tmp_path / "palette.png", transparency=bytes([0, 9, 255, 255]))
    seen: Counter[str] = Counter()
    assert np.array_equal(read_image(tmp_path / "palette.png", None, seen), np.asarray(picture.convert("RGB")))
    assert len(seen) == 1 and next(iter(seen)).startswith("have an alpha channel")


@pytest.mark.parametrize(("width", "height"), [(200_000, 1), (1, 200_000)])
def test_a_picture_that_scaling_would_blow_up_is_refused(width: int, height: int, tmp_path: Path) -> None:
    Image.new("L", (width, height)).save(tmp_path / "thin.png")
    with pytest.raises(UsageError, match=r"thin\.png is .* once it covers 224x224; expected at most"):
        read_image(tmp_path / "thin.png", (3, 224, 224))


def test_a_picture_of_too_many_pixels_is_refused_unread(tmp_path: Path) -> None:
    png(tmp_path / "huge.png", np.zeros((1, 1), np.uint16), 0)
    content = bytearray((tmp_path / "huge.png").read_bytes())
    content[16:24] = struct.pack(">II", 10_000, LARGEST // 10_000 + 1)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "huge.png").write_bytes(content)
    with pytest.raises(UsageError, match=r"huge\.png is 10,000 pixels wide"):
        read_image(tmp_path / "huge.png", (3, 32, 32))


def test_a_file_of_another_format_is_no_picture(tmp_path: Path) -> None:
    """Pillow's reader of EPS starts Ghostscript, whatever the file is called."""
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with pytest.raises(UsageError, match="cannot read image"):
        read_image(tmp_path / "a.png", None)


@pytest.mark.parametrize("size", [(320, 256), (256, 320), (301, 200), (90, 500)])
@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "efficientnet_b0", "vit_b_16", "inception_v3"])
def test_torchvisions_published_transform_is_met_to_the_bit(arch: str, size: tuple[int, int], tmp_path: Path) -> None:
    image = picture(tmp_path / "photo.png", size)
    published = torchvision.models.get_model_weights(arch).DEFAULT.transforms()
    scaled = functional.resize(image, published.resize_size, InterpolationMode(published.interpolation))
    expected = np.asarray(functional.center_crop(scaled, published.crop_size))
    pixels = image_size_of(arch)
    found = read_image(tmp_path / "photo.png", (3, pixels, pixels), resize=published_resize(arch, pixels))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(320, 256), (90, 500)])
@pytest.mark.parametrize("arch", ["resnet26d", "convnext_nano", "vit_tiny_patch16_224", "efficientnet_lite0"])
def test_timms_published_transform_is_met_to_the_bit(arch: str, size: tuple[int, int], tmp_path: Path) -> None:
    image, told = picture(tmp_path / "photo.png", size), timm.get_pretrained_cfg(arch)
    names = ("input_size", "interpolation", "crop_pct", "crop_mode")
    published = create_transform(is_training=False, mean=(0, 0, 0), std=(1, 1, 1), **{name: getattr(told, name) for name in names})
    expected = np.rint(published(image).permute(1, 2, 0).numpy() * 255)
    pixels = image_size_of(arch)
    found = read_image(tmp_path / "photo.png", (3, pixels, pixels), resize=published_resize(arch, pixels))
    np.testing.assert_array_equal(found, expected)


def test_how_images_were_brought_to_size_is_counted_and_those_of_the_size_stay(tmp_path: Path) -> None:
    seen: Counter[str] = Counter()
    resize = published_resize("resnet18", 224)
    image = picture(tmp_path / "right.png", (224, 224))
    np.testing.assert_array_equal(read_image(tmp_path / "right.png", (3, 224, 224), seen, resize), np.asarray(image))
    assert not seen
    picture(tmp_path / "large.png", (300, 400))
    read_image(tmp_path / "large.png", (3, 224, 224), seen, resize)
    read_image(tmp_path / "large.png", (3, 224, 224), seen)
    published, covering = seen
    assert "the shorter edge scaled to 256 pixels (bilinear), as torchvision's ResNet18_Weights.IMAGENET1K_V1 was published" in published
    assert "scaled until they just cover 224x224" in covering


def test_the_zoos_own_networks_were_published_without_a_transform() -> None:
    assert published_resize("resnet8", 32) is None


def picture(path: Path, size: tuple[int, int]) -> Image.Image:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8))
    image.save(path)
    return image
