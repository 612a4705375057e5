"""Pictures of any kind become the data set's images; those that cannot are refused before they cost anything."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nin_multi.data import pictures, synthetic_dataset
from nin_multi.data.pictures import LIMIT, read_picture
from nin_multi.errors import DataError

IMAGES = synthetic_dataset(1, 30).test.images
SHOE = IMAGES[7]  # bright on black, and its border dark


def _save(path: Path, array: np.ndarray, mode: str | None = None, **options: object) -> Path:
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(path, **options)  # type: ignore[arg-type]
    return path


def _large(image: np.ndarray, factor: int = 10) -> np.ndarray:
    return np.kron(image, np.ones((factor, factor), np.uint8))


def _small(large: np.ndarray) -> np.ndarray:
    """As Pillow has it, whose result for squares is the same in all its versions."""
    return np.asarray(Image.fromarray(large).resize((28, 28), Image.Resampling.BILINEAR))


def _near(found: np.ndarray, expected: np.ndarray, levels: float) -> None:
    """Alike on the mean; not the reverse, and not a picture of nothing."""
    assert found.shape == (28, 28)
    assert np.abs(found.astype(float) - expected).mean() <= levels
    assert np.abs(255.0 - found - expected).mean() > 60


class TestTheDataSetsOwn:
    def test_every_image_comes_back_bit_for_bit(self, tmp_path: Path) -> None:
        for image in IMAGES:
            found = read_picture(_save(tmp_path / "a.png", image))
            assert not found.inverted
            assert found.image.dtype == np.uint8
            np.testing.assert_array_equal(found.image, image)

    @pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
    def test_so_it_does_from_other_kinds_of_file(self, tmp_path: Path, mode: str) -> None:
        np.testing.assert_array_equal(read_picture(_save(tmp_path / "a.png", SHOE, mode)).image, SHOE)

    @pytest.mark.parametrize("name", ["a.bmp", "a.tif", "a.gif", "a.ppm", "a.webp"])
    def test_so_it_does_from_files_without_loss(self, tmp_path: Path, name: str) -> None:
        options = {"lossless": True} if name.endswith("webp") else {}
        np.testing.assert_array_equal(read_picture(_save(tmp_path / name, SHOE, **options)).image, SHOE)

    @settings(max_examples=30, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.booleans())
    def test_any_pixels_do_when_told(self, tmp_path_factory: pytest.TempPathFactory, seed: int, invert: bool) -> None:
        image = np.random.RandomState(seed).randint(0, 256, (28, 28)).astype(np.uint8)
        path = _save(tmp_path_factory.getbasetemp() / "any.png", image)
        found = read_picture(path, invert)
        assert found.inverted is invert
        np.testing.assert_array_equal(found.image, 255 - image if invert else image)

    def test_a_garment_that_touches_the_border_is_not_inverted(self, tmp_path: Path) -> None:
        bag = np.full((28, 28), 180, np.uint8)
        bag[:5, :5] = 0
        np.testing.assert_array_equal(read_picture(_save(tmp_path / "a.png", bag)).image, bag)


class TestGround:
    def test_dark_on_light_is_inverted_to_the_bit(self, tmp_path: Path) -> None:
        found = read_picture(_save(tmp_path / "a.png", 255 - SHOE))
        assert found.inverted
        np.testing.assert_array_equal(found.image, SHOE)

    @pytest.mark.parametrize(("level", "inverted"), [(0, False), (127, False), (128, True), (255, True)])
    def test_the_border_decides_not_what_is_inside(self, tmp_path: Path, level: int, inverted: bool) -> None:
        picture = np.full((60, 50), 255 - level, np.uint8)
        picture[:3], picture[-3:], picture[:, :3], picture[:, -3:] = level, level, level, level
        assert read_picture(_save(tmp_path / "a.png", picture)).inverted is inverted

    def test_one_speck_on_the_border_does_not(self, tmp_path: Path) -> None:
        picture = _large(SHOE)
        picture[0, 0] = 255
        assert not read_picture(_save(tmp_path / "a.png", picture)).inverted

    @pytest.mark.parametrize("invert", [True, False])
    def test_the_user_decides_otherwise(self, tmp_path: Path, invert: bool) -> None:
        for image in (SHOE, 255 - SHOE):
            found = read_picture(_save(tmp_path / "a.png", image), invert)
            assert found.inverted is invert
            np.testing.assert_array_equal(found.image, 255 - image if invert else image)

    def test_transparent_places_become_ground(self, tmp_path: Path) -> None:
        """A garment cut out, dark; whatever colour stands below what is not seen."""
        dark = _large(255 - SHOE)
        for below in (0, 77, 255):
            rgba = np.dstack([np.where(dark < 250, dark, below)] * 3 + [np.where(dark < 250, 255, 0)]).astype(np.uint8)
            found = read_picture(_save(tmp_path / "a.png", rgba))
            assert found.inverted
            # Paler than 250 is opaque: the faintest greys of the garment go with the ground.
            _near(found.image, _small(_large(SHOE)), 1.0)
            told = read_picture(_save(tmp_path / "a.png", rgba), False)
            assert not told.inverted
            assert told.image[0, 0] == 0

    def test_a_hole_in_an_opaque_dark_picture_is_dark(self, tmp_path: Path) -> None:
        rgba = np.zeros((56, 56, 4), np.uint8)
        rgba[..., 3] = 255
        rgba[20:30, 20:30] = (255, 255, 255, 0)
        found = read_picture(_save(tmp_path / "a.png", rgba))
        assert (found.inverted, found.image.max()) == (False, 0)

    def test_transparency_of_a_palette(self, tmp_path: Path) -> None:
        picture = Image.fromarray(np.where(_large(SHOE) > 40, 1, 0).astype(np.uint8)).convert("P")
        picture.putpalette([9, 9, 9, 20, 20, 20])  # both dark: only what is transparent tells the ground
        picture.info["transparency"] = 0
        picture.save(tmp_path / "a.png", transparency=0)
        found = read_picture(tmp_path / "a.png")
        assert found.inverted
        np.testing.assert_array_equal(found.image, _small(np.where(_large(SHOE) > 40, 235, 0).astype(np.uint8)))


class TestSize:
    @pytest.mark.parametrize("factor", [2, 3, 10, 37])
    def test_larger(self, tmp_path: Path, factor: int) -> None:
        large = _large(SHOE, factor)
        np.testing.assert_array_equal(read_picture(_save(tmp_path / "a.png", large)).image, _small(large))
        found = read_picture(_save(tmp_path / "a.png", 255 - large))
        assert found.inverted
        np.testing.assert_array_equal(found.image, _small(large))

    @pytest.mark.parametrize(("height", "width", "box"), [(280, 140, (0, 28, 7, 21)), (100, 280, (9, 19, 0, 28))])
    def test_the_aspect_is_kept_and_the_rest_is_ground(self, tmp_path: Path, height, width, box) -> None:
        picture = np.full((height, width), 200, np.uint8)
        found = read_picture(_save(tmp_path / "a.png", picture), False).image
        np.testing.assert_array_equal(found, np.full((28, 28), 200))
        picture[height // 4 : -height // 4, width // 4 : -width // 4] = 0
        found = read_picture(_save(tmp_path / "a.png", picture)).image
        top, bottom, left, right = box
        inside = found[top:bottom, left:right]
        assert set(np.delete(found, np.s_[top:bottom], 0).ravel()) | set(found[:, :left].ravel()) <= {55}
        assert inside[inside.shape[0] // 2, inside.shape[1] // 2] == 255
        assert inside[0, 0] == 55

    @pytest.mark.parametrize("size", [(1, 1), (1, 28), (28, 1), (3, 2), (27, 29)])
    def test_small(self, tmp_path: Path, size: tuple[int, int]) -> None:
        found = read_picture(_save(tmp_path / "a.png", np.full(size, 33, np.uint8)))
        np.testing.assert_array_equal(found.image, np.full((28, 28), 33))

    def test_too_narrow(self, tmp_path: Path, refused) -> None:
        path = _save(tmp_path / "a.png", np.zeros((2, 57), np.uint8))
        with refused(str(path), "57 x 2", "too narrow"):
            read_picture(path)


class TestKinds:
    def test_colour(self, tmp_path: Path) -> None:
        picture = np.zeros((28, 28, 3), np.uint8)
        picture[:, :9], picture[:, 9:18], picture[:, 18:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
        found = read_picture(_save(tmp_path / "a.png", picture), False).image
        assert [int(found[5, column]) for column in (0, 10, 20)] == [76, 150, 29]  # 0.299, 0.587, 0.114 of 255

    def test_jpeg(self, tmp_path: Path) -> None:
        for mode in ("L", "RGB", "CMYK"):
            _near(
                read_picture(_save(tmp_path / "a.jpg", _large(SHOE), mode, quality=95)).image, _small(_large(SHOE)), 1.0
            )

    def test_palette_and_two_levels(self, tmp_path: Path) -> None:
        _near(read_picture(_save(tmp_path / "a.png", SHOE, "P")).image, SHOE, 3.0)
        two = np.where(SHOE > 100, 255, 0).astype(np.uint8)
        np.testing.assert_array_equal(read_picture(_save(tmp_path / "b.png", two, "1")).image, two)

    @pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
    def test_sixteen_bits(self, tmp_path: Path, name: str) -> None:
        Image.fromarray(SHOE.astype(np.uint16) * 257).save(tmp_path / name)
        np.testing.assert_array_equal(read_picture(tmp_path / name).image, SHOE)

    def test_sixteen_bits_are_rounded(self, tmp_path: Path) -> None:
        values = np.array([0, 128, 129, 257, 385, 386, 65406, 65407, 65535], np.uint16)
        Image.fromarray(np.resize(values, (28, 28))).save(tmp_path / "a.png")
        found = read_picture(tmp_path / "a.png", False).image.ravel()[:9]
        np.testing.assert_array_equal(found, np.round(values / 257.0))

    @pytest.mark.parametrize("kind", [np.float32, np.int32])
    def test_more_bits(self, tmp_path: Path, refused, kind: type) -> None:
        path = tmp_path / "a.tif"
        Image.fromarray((SHOE * 1000.0).astype(kind)).save(path)
        with refused(str(path), "expected 8 or 16 bits", "got 32"):
            read_picture(path)

    def test_the_first_frame(self, tmp_path: Path) -> None:
        frames = [Image.fromarray(image) for image in (SHOE, IMAGES[1], IMAGES[2])]
        for name in ("a.gif", "a.png", "a.tif"):
            frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
            np.testing.assert_array_equal(read_picture(tmp_path / name).image, SHOE)

    @pytest.mark.parametrize(("orientation", "turn"), [(1, 0), (3, 2), (6, 1), (8, 3)])
    def test_a_cameras_rotation(self, tmp_path: Path, orientation: int, turn: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(np.rot90(SHOE, turn)).save(tmp_path / "a.png", exif=exif)
        np.testing.assert_array_equal(read_picture(tmp_path / "a.png").image, SHOE)


def _png(width: int, height: int, data: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def _read(path: Path) -> np.ndarray | str:
    """The image, or the expected error's one or two lines; any other error is the test's."""
    try:
        return read_picture(path).image
    except DataError as error:
        told = str(error)
    assert 1 <= len(told.splitlines()) <= 2, told
    assert str(path) in told
    return told


class TestRefused:
    @pytest.mark.parametrize(
        "content", [b"", b"\0", b"hello\n" * 100, b"GIF89a", b"\x80\x04\x95N.", b"%!PS-Adobe-3.0\n"]
    )
    def test_no_picture(self, tmp_path: Path, refused, content: bytes) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(content)
        with refused(str(path)):
            read_picture(path)

    def test_formats_for_which_pillow_starts_programs_are_none(self, tmp_path: Path, refused) -> None:
        path = tmp_path / "a.eps"
        Image.fromarray(SHOE).save(path)
        with refused(str(path), "no picture; expected one of PNG, JPEG"):
            read_picture(path)

    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.bmp", "a.tif", "a.webp", "a.ppm"])
    def test_truncated_anywhere(self, tmp_path: Path, name: str) -> None:
        """Refused, or, where only an end mark is lacking, read as the whole."""
        noise = np.random.RandomState(0).randint(0, 256, (40, 40)).astype(np.uint8)
        whole = _save(tmp_path / name, noise).read_bytes()
        expected = read_picture(tmp_path / name).image
        refusals = 0
        for length in range(0, len(whole), max(len(whole) // 60, 1)):
            (tmp_path / name).write_bytes(whole[:length])
            found = _read(tmp_path / name)
            if isinstance(found, str):
                refusals += 1
            else:
                np.testing.assert_array_equal(found, expected)
        assert refusals > 50

    @pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.gif", "a.tif", "a.webp"])
    def test_damaged_anywhere(self, tmp_path: Path, name: str) -> None:
        """Never anything but a picture or an expected error."""
        exif = Image.Exif()
        exif[0x0112] = 6
        options = {} if name.endswith(("gif", "tif")) else {"exif": exif}
        whole = _save(tmp_path / name, _large(SHOE, 2), **options).read_bytes()
        random = np.random.RandomState(1)
        for _ in range(150):
            damaged = bytearray(whole)
            for place in random.randint(0, min(len(whole), 400), 3):
                damaged[place] = random.randint(0, 256)
            (tmp_path / name).write_bytes(damaged)
            found = _read(tmp_path / name)
            assert isinstance(found, str) or found.shape == (28, 28)

    @pytest.mark.parametrize(("width", "height"), [(10**5, 10**5), (12_000, 10_000), (10**4, 5_001), (LIMIT + 1, 1)])
    def test_huge_before_anything_is_decoded(self, tmp_path: Path, refused, width: int, height: int) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(_png(width, height))
        tracemalloc.start()
        began = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with refused(str(path), "expected at most 50 megapixels"):
                read_picture(path)
        assert time.perf_counter() - began < 1.0
        assert tracemalloc.get_traced_memory()[1] < 5e6
        tracemalloc.stop()

    def test_no_pixels_behind_a_promise(self, tmp_path: Path, refused) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(_png(5000, 5000, b"\0" * 100))
        with refused(str(path), "damaged, or not wholly there"):
            read_picture(path)

    def test_folders_devices_and_nothing(self, tmp_path: Path, refused) -> None:
        for path in (tmp_path, Path("/dev/zero")):
            with refused(str(path), "expected a picture file"):
                read_picture(path)
        with refused(str(tmp_path / "none.png"), "no such picture"):
            read_picture(tmp_path / "none.png")


def test_the_fixture_is_what_the_tests_take_it_for() -> None:
    """A dark border all round and a bright garment: else inversion would not show."""
    border = np.concatenate([SHOE[0], SHOE[-1], SHOE[:, 0], SHOE[:, -1]])
    assert border.mean() < 60
    assert SHOE.max() > 180
    buffer = io.BytesIO()
    Image.fromarray(SHOE).save(buffer, "PNG")
    assert np.array_equal(np.array(Image.open(buffer)), SHOE)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "LA", "1"])
def test_bands_leave_no_seams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    path = tmp_path / "a.png"
    picture = Image.fromarray(_large(SHOE, 3))
    if mode in ("RGBA", "LA"):
        picture.putalpha(Image.fromarray(_large(IMAGES[3], 3)))
    picture.convert(mode).save(path, **({"transparency": 9} if mode == "P" else {}))
    whole = read_picture(path)
    for pixels in (1, 84, 1000):
        monkeypatch.setattr(pictures, "BAND", pixels)
        np.testing.assert_array_equal(read_picture(path).image, whole.image)


def test_fifty_megapixels_with_transparency_stay_below_a_gigabyte(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGBA", (7_071, 7_071), (9, 9, 9, 128)).save(path, compress_level=1)
    program = (
        "import sys; from pathlib import Path; from nin_multi.data.pictures import read_picture\n"
        "from nin_multi.machine import peak_memory_bytes\n"
        "before = peak_memory_bytes(); read_picture(Path(sys.argv[1])); print(peak_memory_bytes() - before)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert int(ended.stdout) < 800_000_000
