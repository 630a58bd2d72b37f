"""Deterministic pseudo-random SAM 2 weights, made only from parameter names and shapes.

numpy only.

    manifest = json.load(open("manifests/sam2.1_hiera_t.json"))["state_dict"]   # {key: shape}
    sd = golden_state_dict(manifest, variant="present")                          # {key: float32 ndarray}
    torch.save({"model": {k: torch.from_numpy(v) for k, v in sd.items()}}, "x.pt")  # official layout

Every tensor is drawn from numpy Generator(PCG64(seed)) with seed = first 8 bytes (little endian) of
sha256(key); the draw is float64 standard normal in C order, then scaled/shifted by the rule for that
key and cast to float32.  A different `salt` gives a different, equally valid, set of weights.

Rules (first match wins; n = the standard normal draw):
  ...positional_encoding_gaussian_matrix          n
  image_encoder.trunk.pos_embed / pos_embed_window 0.1 n
  maskmem_tpos_enc                                 0.2 n
  no_mem_embed, no_mem_pos_enc                     0.1 n
  no_obj_ptr                                       0.5 n
  no_obj_embed_spatial                             0.2 n
  iou_token / mask_tokens / obj_score_token        1.0 n
  point_embeddings / not_a_point_embed             0.5 n
  no_mask_embed                                    0.2 n
  CXBlock gamma                                    0.3 + 0.05 n
  pred_obj_score_head last-layer bias              OBJ_BIAS[variant] + 0.02 n
  pred_obj_score_head last-layer weight            OBJ_GAIN / sqrt(fan_in) n
  iou_prediction_head last-layer weight            IOU_GAIN / sqrt(fan_in) n
  output_hypernetworks_mlps.*.layers.2.weight      HYPER_GAIN[variant] / sqrt(fan_in) n
  any other 1-D "...weight" (norm scale)           1 + 0.02 n
  any other 1-D "...bias"                          0.02 n
  any other tensor with ndim >= 2                  n / sqrt(prod(shape[1:]))
"""

import hashlib
import math

import numpy as np

OBJ_BIAS = {"present": 4.0, "absent": -4.0, "mixed": 0.0, "soft": 4.0}
HYPER_GAIN = {"present": 6.0, "absent": 6.0, "mixed": 6.0, "soft": 1.5}
OBJ_GAIN, IOU_GAIN = 3.0, 3.0


def draw(key, shape, salt=""):
    seed = int.from_bytes(hashlib.sha256((key + salt).encode()).digest()[:8], "little")
    return np.random.Generator(np.random.PCG64(seed)).standard_normal(tuple(shape))


def golden_tensor(key, shape, variant="present", salt=""):
    n = draw(key, shape, salt)
    fan = float(np.prod(shape[1:])) if len(shape) > 1 else 1.0
    inv = 1.0 / math.sqrt(fan)
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "positional_encoding_gaussian_matrix":
        out = n
    elif leaf in ("pos_embed", "pos_embed_window"):
        out = 0.1 * n
    elif key == "maskmem_tpos_enc":
        out = 0.2 * n
    elif key in ("no_mem_embed", "no_mem_pos_enc"):
        out = 0.1 * n
    elif key == "no_obj_ptr":
        out = 0.5 * n
    elif key == "no_obj_embed_spatial":
        out = 0.2 * n
    elif any(s in key for s in ("iou_token", "mask_tokens", "obj_score_token")):
        out = n
    elif "point_embeddings" in key or "not_a_point_embed" in key:
        out = 0.5 * n
    elif "no_mask_embed" in key:
        out = 0.2 * n
    elif leaf == "gamma":
        out = 0.3 + 0.05 * n
    elif key.endswith("pred_obj_score_head.layers.2.bias"):
        out = OBJ_BIAS[variant] + 0.02 * n
    elif key.endswith("pred_obj_score_head.layers.2.weight"):
        out = OBJ_GAIN * inv * n
    elif key.endswith("iou_prediction_head.layers.2.weight"):
        out = IOU_GAIN * inv * n
    elif "output_hypernetworks_mlps" in key and key.endswith("layers.2.weight"):
        out = HYPER_GAIN[variant] * inv * n
    elif len(shape) <= 1 and leaf == "weight":
        out = 1.0 + 0.02 * n
    elif len(shape) <= 1:
        out = 0.02 * n
    else:
        out = inv * n
    return out.astype(np.float32)


def golden_state_dict(manifest, variant="present", salt=""):
    """Weights for manifest {key: shape}.

    variant: present (objects visible), absent (object score negative), mixed (score near 0), soft (as
    present, but small mask logits, so the single-mask output is 'unstable' and the dynamic fallback acts).
    """
    return {k: golden_tensor(k, manifest[k], variant, salt) for k in sorted(manifest)}


def checksum(manifest, variant="present", salt=""):
    """sha256 over the float32 bytes of every tensor in key order: proves both sides hold the same weights."""
    h = hashlib.sha256()
    for k, v in golden_state_dict(manifest, variant, salt).items():
        h.update(k.encode())
        h.update(np.ascontiguousarray(v).tobytes())
    return h.hexdigest()
