#!/usr/bin/env python3
"""What Pillow's filters and transformers' CLIP and SigLIP processors make of small pictures: image_processors.json.

    python3 tests/golden/image_processors.py > tests/golden/image_processors.json

Written with Pillow 12.2.0, transformers 5.17.0 and numpy 2.4.6.
"""

import json

import numpy as np
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil


def picture(width, height):
    """The picture that the test makes too."""
    values = (np.arange(width * height * 3) * 37 + 11 * (np.arange(width * height * 3) // 7)) % 256
    return Image.fromarray(values.astype(np.uint8).reshape(height, width, 3))


def resized():
    for filter_code in range(6):
        for width, height, to_width, to_height in [(7, 5, 4, 9), (5, 11, 13, 3), (6, 6, 6, 2), (1, 3, 2, 2)]:
            pixels = np.asarray(picture(width, height).resize((to_width, to_height), filter_code))
            yield {"filter": filter_code, "from": [width, height], "to": [to_width, to_height],
                   "rgb": pixels.flatten().tolist()}


CLIP, SIGLIP = "CLIPImageProcessor", "SiglipImageProcessor"
CONFIGS = [
    (CLIP, {"size": {"shortest_edge": 4}, "crop_size": {"height": 4, "width": 4}}),
    (CLIP, {"size": 4, "crop_size": 5}),
    (CLIP, {"size": {"height": 3, "width": 5}, "do_center_crop": False}),
    (CLIP, {"size": {"shortest_edge": 6}, "crop_size": {"height": 3, "width": 8}, "resample": 2}),
    (CLIP, {"do_resize": False, "crop_size": 3, "do_normalize": False}),
    (CLIP, {"size": 3, "do_center_crop": False, "do_rescale": False, "image_mean": [100, 90, 80], "image_std": [9, 8, 7]}),
    (CLIP, {"size": 3, "crop_size": 3, "rescale_factor": 0.01, "resample": 0, "image_mean": 0.5, "image_std": 0.25}),
    (SIGLIP, {"size": {"height": 4, "width": 4}}),
    (SIGLIP, {"size": {"height": 2, "width": 3}, "resample": 1, "do_convert_rgb": None}),
    (SIGLIP, {"size": {"height": 4, "width": 4}, "resample": 5, "do_center_crop": True, "crop_size": 2}),
    (SIGLIP, {"do_resize": False, "do_rescale": False, "do_normalize": False}),
]


def processed():
    for kind, config in CONFIGS:
        processor = (CLIPImageProcessorPil if kind == CLIP else SiglipImageProcessorPil)(**config)
        for width, height in [(6, 4), (3, 7)]:
            pixels = np.asarray(processor(picture(width, height), return_tensors="np")["pixel_values"][0], np.float32)
            for written in ({"image_processor_type": kind, **config}, json.loads(processor.to_json_string())):
                yield {"config": written, "from": [width, height], "shape": list(pixels.shape),
                       "values": [float(f"{value:.9g}") for value in pixels.flatten().tolist()]}


print(json.dumps({"resized": list(resized()), "processed": list(processed())}))
