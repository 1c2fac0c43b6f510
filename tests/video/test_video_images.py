from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from aosa_fast.errors import VideoError
from aosa_fast.video import VideoClip, read_clip


def grey(value: int, size: tuple[int, int] = (16, 12)) -> Image.Image:
    return Image.new("L", size, value)


def numbered(folder: Path, *names: str) -> Path:
    """Pictures whose level says their place among the names."""
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        grey(20 * i).save(folder / name)
    return folder


IN_ORDER = {
    "counts": [f"f{i}.png" for i in (1, 2, 9, 10, 11)],
    "capitals": ["IMG_1.JPG", "img_2.jpg", "Img_10.jpg"],
    "decimals": [f"{t}.png" for t in (0, 0.04, 0.12, 0.2, 1.0, 10.5)],
    "chapters": [f"take 1.{i}.png" for i in (8, 9, 10, 11)],
    "constant numbers": [f"v_g01_c2_{i:03}.png" for i in (1, 2, 3)],
    "numbers and times": ["1_40ms.png", "2_80ms.png", "3_80ms.png"],
    "shots counted through": ["s1_f1.png", "s1_f2.png", "s2_f3.png"],
    "a count behind scores": ["s90_f1.png", "s7_f2.png", "s80_f3.png"],
    "longer than floats": [f"{2**60 + i}.png" for i in range(3)],
    "one without a number": ["cover.png"],
}


@pytest.mark.parametrize("kind", IN_ORDER)
def test_a_series_is_in_the_order_of_its_numbers(kind: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    clip = read_clip(numbered(tmp_path, *IN_ORDER[kind]), len(IN_ORDER[kind]))
    assert levels(clip) == list(range(len(IN_ORDER[kind])))


FLOW = [f"img_{i}.jpg" for i in (1, 2, 3)] + [f"flow_{axis}_{i}.jpg" for i in (1, 2) for axis in "xy"]
CLOCK = ["12-00-58.png", "12-00-59.png", "12-01-04.png", "12-03-58.png"]
SEVERAL = {
    "flow beside frames": (FLOW, r"3: img_\*\.jpg \(3\), flow_x_\*\.jpg \(2\), flow_y_\*\.jpg \(2\); .*/img_\*\.jpg$"),
    "two suffixes": (["1.png", "1.jpg", "2.png"], r"2: \*\.png \(2\), 1\.jpg \(1\); "),
    "a cover": (["cover.jpg", "1.jpg", "2.jpg"], r"2: \*\.jpg \(2\), cover\.jpg \(1\); "),
    "two cameras": (["c1_1.png", "c1_2.png", "c2_1.png", "c2_2.png"], r"2: c1_\*\.png \(2\), c2_\*\.png \(2\); "),
    "words": (["a.png", "b.png", "c.png"], r"3: a\.png \(1\), "),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_several_series_are_no_video(kind: str, tmp_path: Path) -> None:
    names, message = SEVERAL[kind]
    with pytest.raises(VideoError, match=rf"^[^\n]*: must be one series of images; it has {message}"):
        read_clip(numbered(tmp_path, *names), 1)


def test_a_pattern_chooses_a_series(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = numbered(tmp_path / "[x]", *FLOW, "7.jpg", "8.jpg", *CLOCK)
    wanted = {
        "img_*.jpg": [0, 1, 2],
        "flow_y_?.jpg": [4, 6],
        "*.jpg": [7, 8],  # of all that match, those whose * is a number
        "*.png": [9, 10, 11, 12],
        "img_[23].jpg": [1, 2],
    }
    for pattern, places in wanted.items():
        assert levels(read_clip(folder / pattern, len(places))) == places
    monkeypatch.chdir(folder)
    assert read_clip("img_*.jpg", 3).path == "img_*.jpg"
    assert levels(read_clip(numbered(tmp_path / "clock", *CLOCK[1:]) / "*.png", 3)) == [0, 1, 2]
    with pytest.raises(VideoError, match=r"several may, in other orders; [^\n]*/clock/12-\*-\*\.png takes"):
        read_clip(tmp_path / "clock", 3)
    with pytest.raises(VideoError, match=r"^flow_\*: must be one series of images; it has 2: "):
        read_clip("flow_*", 1)
    for nothing in ("jpg_*.img", "no/img_*.jpg", "clip[1].mp4"):
        with pytest.raises(VideoError, match=r"^[^\n]*: must (exist, or be a pattern for|be readable)[^\n]*$"):
            read_clip(nothing, 1)
    with pytest.raises(VideoError, match=r"must have one image for each number; got 01\.bmp and 1\.bmp$"):
        read_clip(numbered(tmp_path / "twice", "1.bmp", "01.bmp", "2.bmp"), 1)


def test_marks_of_a_pattern_may_be_part_of_a_name(tmp_path: Path) -> None:
    numbered(tmp_path, "a1.png", "a[1].png", "b*.png")
    assert levels(read_clip(tmp_path / "a[1].png", 1)) == [1]
    assert levels(read_clip(tmp_path / "b*.png", 1)) == [2]
    (tmp_path / "a[1].png").unlink()
    assert levels(read_clip(tmp_path / "a[1].png", 1)) == [0]


@pytest.mark.parametrize(
    ("numbers", "start", "gap"),
    [
        ([1, 2, 3, 57, 58], 0, None),
        ([1, 2, 3, 57, 58], 1, "003.png and 057.png"),
        ([1, 2, 3, 4, 6, 7], 2, "004.png and 006.png"),
        ([5, 10, 15, 25, 30], 1, "015.png and 025.png"),
        ([1, 2, 3, 57, 58, 59], 3, None),
        ([5, 10, 15, 20], 0, None),
        ([0, 33, 67, 100, 133], 0, None),
        ([3, 50], 0, None),
    ],
)
def test_a_gap_in_the_numbers_is_said(
    numbers: list[int], start: int, gap: str | None, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    numbered(tmp_path, *(f"{i:03}.png" for i in numbers))
    read_clip(tmp_path, min(3, len(numbers)), start=start)
    said = [str(warning.message) for warning in recwarn]
    assert said == ([] if gap is None else [f"{tmp_path}: frames are missing between {gap}; the leap counts as motion"])


def test_what_is_no_picture_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    numbered(tmp_path, "1.png")
    os.mkfifo(tmp_path / "2.png")
    (tmp_path / "3.png").mkdir()
    (tmp_path / "4.png").symlink_to(tmp_path / "gone.png")
    for place, message in enumerate(
        ("a pipe or a device, no regular file", "Is a directory", "a link to a file that"), 1
    ):
        with pytest.raises(VideoError, match=rf"/{place + 1}\.png: must be readable; got {message}"):
            read_clip(tmp_path, 1, start=place)
    assert levels(read_clip(tmp_path, 1, start=0)) == [0]


def test_folder_is_sorted_by_numbers(tmp_path: Path) -> None:
    for i in range(12):
        grey(10 * i).save(tmp_path / f"Frame-{i}.PNG")
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._Frame-0.PNG").write_bytes(b"no image")
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
    for name, (image, color) in images.items():
        image.save(tmp_path / name)
        frame = read_clip(tmp_path / name, 1).frames[0]
        assert frame[4, 4].tolist() == pytest.approx(color, abs=3), name


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


# Entries of a directory: tag, type, count, and the value or its place. The second one is a text that is a fraction.
ODD = {
    "a fraction for a text": bytes.fromhex("31010500010000004000"),
    "a fraction for two numbers": bytes.fromhex("18010500010000004000"),
    "a value behind the end": bytes.fromhex("31010200ffffff7f4000"),
    "an unknown type": bytes.fromhex("3101ff00010000004000"),
}
EXIF = {"sound": turned(6).tobytes()} | {
    name: b"Exif\0\0II*\0" + bytes.fromhex("080000000200" + "120103000100000006000000") + tail.ljust(86, b"\0")
    for name, tail in ODD.items()
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("kind", EXIF)
def test_exif_orientation_is_applied_whatever_else_it_holds(kind: str, suffix: str, tmp_path: Path) -> None:
    image = Image.new("RGB", (16, 8))
    image.paste((255, 255, 255), (0, 0, 8, 8))
    image.save(tmp_path / f"a.{suffix}", exif=EXIF[kind], quality=95)
    for path in (tmp_path / f"a.{suffix}", tmp_path):
        frame = read_clip(path, 1).frames[0]
        assert frame.shape == (16, 8, 3)
        assert frame[2].mean() > 250
        assert frame[13].mean() < 5


WORDS = b"Exif\0\0II*\0" + bytes.fromhex("080000000100" + "120102000400000075700000" + "00000000")


@pytest.mark.parametrize("exif", [b"Exif\0\0no directory", b"Exif\0\0", turned(99).tobytes(), WORDS])
def test_exif_without_an_orientation_is_ignored(exif: bytes, tmp_path: Path) -> None:
    Image.new("RGB", (16, 8)).save(tmp_path / "a.jpg", exif=exif)
    assert read_clip(tmp_path / "a.jpg", 1).frames.shape == (1, 8, 16, 3)


def animate(path: Path, durations: list[int], **options: object) -> Path:
    frames = [Image.fromarray(np.full((16, 16, 3), 20 * i, np.uint8)) for i in range(len(durations))]
    options |= {"lossless": True} if path.suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=durations, **options)
    return path


def levels(clip: VideoClip) -> list[int]:
    return [int(frame[0, 0, 0]) // 20 for frame in clip.frames]


@pytest.mark.parametrize("suffix", [".webp", ".png", ".apng", ".gif"])
def test_frames_of_animations_have_times_of_their_own(suffix: str, tmp_path: Path) -> None:
    options = {"format": "PNG"} if suffix == ".apng" else {}
    path = animate(tmp_path / f"a{suffix}", [1000, 0, 10, 100, 90], **options)
    clip = read_clip(path, 4, start=1)
    assert (clip.indices, clip.total_frames, clip.reader, levels(clip)) == ((1, 2, 3, 4), 5, "images", [1, 2, 3, 4])
    assert clip.times == pytest.approx((1, 1.1, 1.11, 1.21))  # a frame without a time is shown for 0.1 s
    assert clip.fps == pytest.approx(5 / 1.3)
    assert levels(read_clip(path, 1, start="1.2s")) == [4]
    assert levels(read_clip(path, 2, stride=3)) == [0, 3]
    with pytest.raises(VideoError, match=r"must reach 2\.5 s; got a last frame at 1\.21 s$"):
        read_clip(path, 1, start=2.5)


def test_the_default_image_of_an_animation_is_no_frame(tmp_path: Path) -> None:
    clip = read_clip(animate(tmp_path / "a.png", [100] * 5, default_image=True), 4)
    assert (levels(clip), clip.total_frames, clip.indices) == ([1, 2, 3, 4], 4, (0, 1, 2, 3))


def test_what_follows_the_last_frame_of_a_gif_is_no_frame(tmp_path: Path) -> None:
    path = animate(tmp_path / "a.gif", [100, 100])
    path.write_bytes(path.read_bytes()[:-1] + b"!\xfe\x05hello\x00;")
    clip = read_clip(path, 1)
    assert (clip.total_frames, clip.indices) == (2, (0,))


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_an_animation_ends_where_it_is_cut_off(suffix: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (6, 40, 40, 3), dtype=np.uint8)
    noise[:, 0, 0] = 20 * np.arange(6)[:, None]
    frames = [Image.fromarray(frame) for frame in noise]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    with pytest.warns(UserWarning, match=r"a\.\w+: damaged from frame 4 on, where it ends$"):
        clip = read_clip(path, 2, start=2)
    assert (clip.total_frames, clip.indices) == (4, (2, 3))
    assert clip.damaged in (1, 2)  # a GIF does not say how many were to come
    assert suffix == ".gif" or levels(clip) == [2, 3]


def test_a_gif_may_be_cut_off_anywhere(tmp_path: Path) -> None:
    path = animate(tmp_path / "a.gif", [100, 100])
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"!\xf9\x04") + 11])  # before the second frame says how large it is
    with pytest.warns(UserWarning, match=r"a\.gif: damaged from frame 1 on, where it ends$"):
        assert read_clip(path, 1).total_frames == 1


def test_pages_and_still_images(tmp_path: Path) -> None:
    pages = [grey(20 * i, (16, 12)) for i in range(3)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=[*pages[1:], grey(0, (8, 6))])
    clip = read_clip(tmp_path / "a.tif", 3, start=0)
    assert (levels(clip), clip.total_frames, clip.fps) == ([0, 1, 2], 4, 25.0)
    with pytest.raises(VideoError, match=r"a\.tif: must be 16x12 as frame 1 is; frame 3 is 8x6$"):
        read_clip(tmp_path / "a.tif", 2, stride=2, start=1)
    with TiffImagePlugin.AppendingTiffWriter(str(tmp_path / "pyramid.tif"), True) as writer:
        for side, kind in ((16, 0), (8, 1), (4, 1)):  # 1: a smaller copy
            grey(0, (side, side)).save(writer, "TIFF", tiffinfo={254: kind})
            writer.newFrame()
    assert read_clip(tmp_path / "pyramid.tif", 1).total_frames == 1
    pages[2].save(tmp_path / "b.jpg")
    # As phones do it: a second picture behind the first, which is no frame.
    pages[2].save(tmp_path / "c.jpg", format="MPO", save_all=True, append_images=[grey(0, (8, 6))])
    for name in ("b.jpg", "c.jpg"):
        assert levels(read_clip(tmp_path / name, 1)) == [2]
        with pytest.raises(VideoError, match=rf"{name}: must have at least 2 frames; got 1$"):
            read_clip(tmp_path / name, 2)


def test_too_many_pixels_are_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aosa_fast.video.clip.MAX_FRAME_PIXELS", 1000)
    grey(0).save(tmp_path / "a.tif", save_all=True, append_images=[grey(0, (40, 30))])
    with pytest.raises(VideoError, match=r"a\.tif: must have frames of at most 1000 pixels \(.*\); got 40x30$"):
        read_clip(tmp_path / "a.tif", 2, start=0)
    grey(0, (40, 30)).save(tmp_path / "a.png")
    for limit in (1199, 100):  # Pillow warns of the first, and refuses the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(VideoError, match=rf"a\.png: must have frames of at most {limit} pixels; got 1200$"):
            read_clip(tmp_path / "a.png", 1)


def test_postscript_that_calls_itself_a_picture_is_not_run(tmp_path: Path) -> None:
    grey(0).save(tmp_path / "1.png", "EPS")
    with pytest.raises(VideoError, match=r"1\.png: must be an image in one piece; got PostScript, a program"):
        read_clip(tmp_path, 1)


def test_animated_gif_lays_transparency_over_black(tmp_path: Path) -> None:
    frames = []
    for i in range(5):
        image = Image.new("RGBA", (32, 32), (255, 255, 255, 0))
        image.paste((250, 20, 20, 255), (4 * i, 0, 4 * i + 4, 32))
        frames.append(image)
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=100, disposal=2)
    clip = read_clip(tmp_path / "a.gif", 5)
    for i, frame in enumerate(clip.frames):
        lit = np.flatnonzero(frame[16].max(axis=1) > 100)
        assert lit.tolist() == list(range(4 * i, 4 * i + 4))


def test_bad_images_are_named(tmp_path: Path) -> None:
    grey(0).save(tmp_path / "a1.png")
    grey(0, (20, 12)).save(tmp_path / "a2.png")
    with pytest.raises(VideoError, match=r"a2\.png: must be 16x12 as a1\.png is; a2\.png is 20x12$"):
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
