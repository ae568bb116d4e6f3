import base64
import binascii
import io
import os

from PIL import Image, ImageOps

# A decoded image takes four bytes a pixel, and rotating one needs it twice: within the function's memory.
MOST_PIXELS = 20_000_000
# The decoders that are worth their attack surface; Pillow has dozens.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP")
LARGEST_SIDE = 2048


def main(event, context):
    """Makes a thumbnail: PNG where the picture has transparent parts, else JPEG.

    Bytes are the picture; JSON is {"image": base64, "width": pixels, "height": pixels}.
    """
    data, width, height = request(event)
    picture = opened(data)
    # Decodes a JPEG at a fraction of its size where that is enough.
    picture.draft("RGB", (width, height))
    picture = ImageOps.exif_transpose(picture)
    has_alpha = "A" in picture.getbands() or "transparency" in picture.info
    picture = picture.convert("RGBA" if has_alpha else "RGB")
    picture.thumbnail((width, height), Image.Resampling.LANCZOS)
    return encoded(picture, "PNG" if has_alpha else "JPEG")


def request(event):
    fields = {}
    if isinstance(event, dict):
        fields = event
        try:
            event = base64.b64decode(event["image"], validate=True)
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise ValueError('"image" is not a picture in base64') from None
    if not isinstance(event, bytes) or not event:
        raise ValueError('send a picture: its bytes, or {"image": base64}')
    return event, side(fields, "width"), side(fields, "height")


def side(fields, name):
    value = fields.get(name, os.environ.get(name.upper(), "256"))
    try:
        pixels = int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is no number: {value!r}") from None
    if not 1 <= pixels <= LARGEST_SIDE:
        raise ValueError(f"{name} is {pixels}, and has to be from 1 to {LARGEST_SIDE}")
    return pixels


def opened(data):
    """Reads the header alone: a picture that would not fit is refused before anything is decoded."""
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None
    except OSError:
        raise ValueError(f"not a picture in one of {', '.join(FORMATS)}") from None
    if picture.width * picture.height > MOST_PIXELS:
        raise ValueError(f"{picture.width} x {picture.height} is more than {MOST_PIXELS} pixels")
    return picture


def encoded(picture, kind):
    out = io.BytesIO()
    picture.save(out, kind, **({"optimize": True} if kind == "PNG" else {"quality": 85, "progressive": True}))
    return out.getvalue()
