#!/usr/bin/env python3
"""Makes the seeds of the picture fuzzer, tests/fuzz/pictures: one small file for each way to store a picture.

Written with Pillow 12.2.0.
"""

import pathlib

from PIL import Image

folder = pathlib.Path(__file__).resolve().parent.parent / "fuzz" / "pictures"
folder.mkdir(exist_ok=True)
rgb = Image.new("RGB", (9, 7))
rgb.putdata([(x * 28 % 256, y * 36 % 256, (x * y * 5) % 256) for y in range(7) for x in range(9)])
grey = rgb.convert("L")
rgba = rgb.copy()
rgba.putalpha(grey)
palette = rgb.quantize(8)
wide = Image.new("I;16", (4, 3))
wide.putdata([i * 5000 for i in range(12)])

for name, image, options in [
    ("rgb.png", rgb, {}), ("rgba.png", rgba, {}), ("grey.png", grey, {}), ("one_bit.png", grey.convert("1"), {}),
    ("palette.png", palette, {"transparency": 1}), ("grey_alpha.png", rgba.convert("LA"), {}), ("grey16.png", wide, {}),
    ("rgb.jpg", rgb, {}), ("progressive.jpg", rgb, {"progressive": True}), ("grey.jpg", grey, {}),
    ("cmyk.jpg", rgb.convert("CMYK"), {}), ("lossy.webp", rgb, {"quality": 50}), ("lossless.webp", rgb, {"lossless": True}),
    ("alpha.webp", rgba, {}), ("animated.webp", rgb, {"save_all": True, "append_images": [rgb.rotate(180)]}),
    ("palette.gif", palette, {"transparency": 2}), ("interlaced.gif", palette, {"interlace": 1}),
    ("animated.gif", rgb, {"save_all": True, "append_images": [rgb.rotate(180)]}),
]:
    image.save(folder / name, **options)
