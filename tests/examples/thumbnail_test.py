import base64
import io
import struct
import sys
import unittest
import zlib

try:
    from PIL import Image
except ImportError:
    print("SKIPPED: python3-pil is not installed")
    sys.exit(77)
sys.path.insert(0, sys.argv.pop())
import handler


def picture(mode, size, kind, color):
    out = io.BytesIO()
    Image.new(mode, size, color).save(out, kind)
    return out.getvalue()


def png_that_claims(width, height):
    """A small file whose header promises a large picture."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def opened(data):
    return Image.open(io.BytesIO(data))


class Thumbnail(unittest.TestCase):
    def test_keeps_the_proportions_within_the_size(self):
        small = opened(handler.main(picture("RGB", (800, 400), "JPEG", "red"), None))
        self.assertEqual((small.format, small.size), ("JPEG", (256, 128)))

    def test_keeps_transparency(self):
        small = opened(handler.main(picture("RGBA", (600, 600), "PNG", (0, 255, 0, 10)), None))
        self.assertEqual((small.format, small.mode), ("PNG", "RGBA"))
        self.assertEqual(small.getpixel((5, 5)), (0, 255, 0, 10))

    def test_takes_json_with_a_size(self):
        event = {"image": base64.b64encode(picture("P", (300, 300), "GIF", 3)).decode(), "width": 20, "height": "30"}
        self.assertEqual(opened(handler.main(event, None)).size, (20, 20))

    def test_refuses_a_decompression_bomb_by_its_header(self):
        for size in ((5000, 5000), (60000, 60000)):
            with self.assertRaisesRegex(ValueError, "pixels"):
                handler.main(png_that_claims(*size), None)

    def test_refuses_what_is_no_picture(self):
        for event in (b"hello", b"", None, "x", {}, {"image": "&&&"}, {"image": 3}, b"%!PS-Adobe-3.0 EPSF-3.0\n"):
            with self.assertRaises(ValueError):
                handler.main(event, None)

    def test_refuses_sizes_that_make_no_sense(self):
        data = base64.b64encode(picture("RGB", (8, 8), "PNG", "red")).decode()
        for width in (0, -1, 100000, "wide", None, []):
            with self.assertRaisesRegex(ValueError, "width"):
                handler.main({"image": data, "width": width}, None)


if __name__ == "__main__":
    unittest.main()
