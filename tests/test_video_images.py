from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aosa_fast.errors import VideoError
from aosa_fast.video import read_clip


def grey(value: int, size: tuple[int, int] = (16, 12)) -> Image.Image:
    return Image.new("L", size, value)


def test_folder_is_sorted_by_numbers(tmp_path: Path) -> None:
    for i in range(12):
        grey(10 * i).save(tmp_path / f"Frame-{i}.PNG")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._Frame-0.PNG").write_bytes(b"no image")
    (tmp_path / "more.png").mkdir()
    (tmp_path / "more.png").rmdir()
    clip = read_clip(tmp_path, 4, stride=3, start=1)
    assert [int(frame[0, 0, 0]) for frame in clip.frames] == [10, 40, 70, 100]
    assert clip.frames.shape == (4, 12, 16, 3)
    assert (clip.indices, clip.total_frames, clip.reader, clip.fps) == ((1, 4, 7, 10), 12, "images", 25.0)
    assert clip.times == pytest.approx((0.04, 0.16, 0.28, 0.4))
    assert read_clip(tmp_path, 1, start="0.2s").indices == (5,)


def test_every_kind_of_image_becomes_rgb(tmp_path: Path) -> None:
    alpha = Image.new("RGBA", (8, 8), (200, 100, 50, 128))
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([9, 9, 9, 200, 100, 50])
    hidden = palette.copy()
    hidden.info["transparency"] = 1
    deep = Image.fromarray(np.full((8, 8), 128 * 257, np.uint16))
    images = {
        "1 grey.png": (grey(77, (8, 8)), (77, 77, 77)),
        "2 deep.png": (deep, (128, 128, 128)),
        "3 deep.tif": (deep, (128, 128, 128)),
        "4 alpha.png": (alpha, (100, 50, 25)),
        "5 alpha.webp": (alpha, (100, 50, 25)),
        "6 palette.png": (palette, (200, 100, 50)),
        "7 hidden.png": (hidden, (0, 0, 0)),
        "8 bits.bmp": (Image.new("1", (8, 8), 1), (255, 255, 255)),
        "9 rgb.jpg": (Image.new("RGB", (8, 8), (200, 100, 50)), (200, 100, 50)),
    }
    for name, (image, _) in images.items():
        image.save(tmp_path / name)
    clip = read_clip(tmp_path, len(images))
    for frame, (name, (_, color)) in zip(clip.frames, images.items(), strict=True):
        assert frame[4, 4].tolist() == pytest.approx(color, abs=3), name


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 8))
    image.paste((255, 255, 255), (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees to show upright
    image.save(tmp_path / "a.jpg", exif=exif, quality=95)
    frame = read_clip(tmp_path / "a.jpg", 1).frames[0]
    assert frame.shape == (16, 8, 3)
    assert frame[2].mean() > 250
    assert frame[13].mean() < 5


def test_animated_webp_and_still_image(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((16, 16, 3), 20 * i, np.uint8)) for i in range(10)]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=50, lossless=True)
    clip = read_clip(tmp_path / "a.webp", 4, stride=2, start=3)
    assert [int(frame[0, 0, 0]) for frame in clip.frames] == [60, 100, 140, 180]
    assert clip.fps == pytest.approx(20)
    assert clip.times == pytest.approx((0.15, 0.25, 0.35, 0.45))
    frames[3].save(tmp_path / "b.png")
    assert read_clip(tmp_path / "b.png", 1).frames.max() == 60
    with pytest.raises(VideoError, match=r"b\.png: must have at least 2 frames; got 1$"):
        read_clip(tmp_path / "b.png", 2)


def test_animated_gif_lays_transparency_over_black(tmp_path: Path) -> None:
    frames = []
    for i in range(5):
        image = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
        image.paste((250, 20, 20, 255), (4 * i, 0, 4 * i + 4, 32))
        frames.append(image)
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100, disposal=2)
    clip = read_clip(tmp_path / "a.gif", 5)
    assert clip.reader == "pyav"
    for i, frame in enumerate(clip.frames):
        lit = np.flatnonzero(frame[16].max(axis=1) > 100)
        assert lit.tolist() == list(range(4 * i, 4 * i + 4))


def test_bad_images_are_named(tmp_path: Path) -> None:
    grey(0).save(tmp_path / "a1.png")
    grey(0, (20, 12)).save(tmp_path / "a2.png")
    with pytest.raises(VideoError, match=r"a2\.png: must be 16x12 as a1\.png is; got 20x12$"):
        read_clip(tmp_path, 2)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a2.png")
    whole = (tmp_path / "a2.png").read_bytes()
    swapped = whole[:60] + bytes(40) + whole[100:]
    for data in (b"", b"junk", whole[:20], whole[:2000], swapped):
        (tmp_path / "a2.png").write_bytes(data)
        for path, start in ((tmp_path, 1), (tmp_path / "a2.png", 0)):
            with pytest.raises(VideoError, match=r"^[^\n]*a2\.png: must be [^\n]*$"):
                read_clip(path, 1, start=start)
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "b.tif")
    with pytest.raises(VideoError, match="must be an 8- or 16-bit image"):
        read_clip(tmp_path / "b.tif", 1)


def test_real_frame_folder(shared_data: Path) -> None:
    clip = read_clip(shared_data / "ucf101/jpg/CliffDiving/v_CliffDiving_g01_c01", 16, stride=4, start=2)
    assert clip.total_frames == 64
    assert clip.frames.shape == (16, 240, 320, 3)
    first = np.asarray(Image.open(shared_data / "ucf101/jpg/CliffDiving/v_CliffDiving_g01_c01/image_00003.jpg"))
    assert np.array_equal(clip.frames[0], first)
