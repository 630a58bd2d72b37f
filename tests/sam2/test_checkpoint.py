"""Weights in and out: every layout that people have, and what is said when a file does not fit."""

import functools
import math
import zipfile

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from sam2.checkpoint import CheckpointError, export, identify, load, load_trunk, read
from sam2.model.sam2 import SAM2
from sam2.model.trunk import build_trunk, maps
from sam2.variants import VARIANTS, configured, resolve
from tests import golden

OFFICIAL = [f"sam{version}_{size}" for version in ("2", "2.1") for size in ("t", "s", "b+", "l")]


def empty(name):
    with torch.device("meta"):
        return SAM2(VARIANTS[name])


@functools.cache
def pool():
    return torch.randn(8_000_000, generator=torch.Generator().manual_seed(0))


def made_up(shapes):
    """Different values in every tensor, all windows into one storage, so that even a large file is small."""
    return {
        name: pool()[31 * i :][: math.prod(shape)].view(tuple(shape))
        for i, (name, shape) in enumerate(shapes.items())
    }


@pytest.fixture
def small():
    """A model of the test preset and an official-layout copy of other weights."""
    model = SAM2(VARIANTS["test"])
    return model, {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}


def weights_equal(model, expected):
    actual = model.state_dict()
    return actual.keys() == expected.keys() and all(
        torch.equal(actual[name], expected[name]) for name in expected
    )


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_official_file_comes_back_byte_for_byte(name, tmp_path, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)  # nine tenths of the time for the large models
    manifest = golden.manifest(name)
    official = made_up(manifest)
    torch.save({"model": official}, tmp_path / "official.pt")
    model = empty(name)
    report = load(model, tmp_path / "official.pt")
    assert report.fits and len(report.matched) == len(manifest)
    export(model, tmp_path / "ours.pt")
    exported = torch.load(tmp_path / "ours.pt", weights_only=True, mmap=True)
    assert exported.keys() == {"model"}
    assert exported["model"].keys() == official.keys()
    for key, tensor in exported["model"].items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, official[key]), key
    (tmp_path / "ours.pt").unlink()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"model": w, "optimizer": {"state": {0: torch.zeros(3)}}, "epoch": 3},
        lambda w: {"state_dict": {f"model.{k}": v for k, v in w.items()} | {"loss.weight": torch.ones(2)}},
        lambda w: {"state_dict": {f"module.net._orig_mod.{k}": v for k, v in w.items()}, "global_step": 7},
        lambda w: {
            f"_orig_mod.{k.replace('image_encoder.', 'image_encoder._orig_mod.')}": v for k, v in w.items()
        },
        lambda w: {"model": w, "model_ema": {k: v for k, v in w.items() if "trunk" in k}},
    ],
    ids=[
        "bare",
        "official with optimiser",
        "lightning",
        "ddp and compile",
        "compiled part",
        "half a second model",
    ],
)
def test_the_model_is_found_in_any_wrapper(small, wrap, tmp_path):
    model, weights = small
    torch.save(wrap(weights), tmp_path / "file.ckpt")
    assert load(model, tmp_path / "file.ckpt").fits
    assert weights_equal(model, weights)


def test_averaged_weights_beside_the_plain_ones_must_be_chosen(small, tmp_path):
    model, weights = small
    averaged = {name: tensor + 1 for name, tensor in weights.items()}
    torch.save({"model": weights, "ema": averaged}, tmp_path / "two.pt")
    with pytest.raises(CheckpointError, match=r"two\.pt holds several models.*'model\.' or 'ema\.'"):
        load(model, tmp_path / "two.pt")
    report = load(model, tmp_path / "two.pt", prefix="ema.")
    assert weights_equal(model, averaged)
    assert f"left alone: {len(weights)} tensors outside 'ema.'" in str(report)


def test_a_file_of_another_precision_is_cast_to_the_models(small, tmp_path):
    model, weights = small
    halves = {name: tensor.to(torch.bfloat16) for name, tensor in weights.items()}
    torch.save({"model": halves}, tmp_path / "half.pt")
    load(model, tmp_path / "half.pt")
    assert weights_equal(model, {name: tensor.float() for name, tensor in halves.items()})
    bare = empty("test")
    load(bare, tmp_path / "half.pt")
    assert weights_equal(bare, {name: tensor.float() for name, tensor in halves.items()})


def test_a_safetensors_file_is_read(small, tmp_path):
    model, weights = small
    save_file(weights, tmp_path / "model.safetensors")
    load(model, tmp_path / "model.safetensors")
    assert weights_equal(model, weights)


def test_an_hf_video_checkpoint_is_read(tmp_path):
    official = golden.state_dict("sam2.1_t")
    hf = {}
    for name, source in golden.key_map().items():
        stem, _, row = source.removesuffix("]").partition("[")
        if row:
            hf.setdefault(stem, torch.zeros(4, 256))[int(row)] = official[name]
        else:
            hf[stem] = official[name]
    hf["shared_image_embedding.positional_embedding"] = hf[
        "prompt_encoder.shared_embedding.positional_embedding"
    ]
    torch.save(hf, tmp_path / "hf.bin")
    model = empty("sam2.1_t")
    load(model, tmp_path / "hf.bin")
    assert weights_equal(model, official)


@pytest.mark.parametrize(
    ("file", "model", "reason"),
    [
        ("sam2.1_t", "sam2.1_b+", 'file.pt has 12 trunk blocks, model "sam2.1_b+" has 24'),
        ("sam2_l", "sam2_s", 'file.pt has 48 trunk blocks, model "sam2_s" has 16'),
        ("sam2.1_t", "sam2_t", "file.pt is a 2.1 file (has no_obj_embed_spatial, obj_ptr_tpos_proj.weight)"),
        (
            "sam2_t",
            "sam2.1_t",
            "file.pt is a 2.0 file (lacks no_obj_embed_spatial, obj_ptr_tpos_proj.weight)",
        ),
        ("demo", "test", 'file.pt has 6 trunk blocks, model "test" has 4'),
    ],
)
def test_a_file_of_another_model_is_named(file, model, reason, tmp_path):
    shapes = {name: tensor.shape for name, tensor in empty(file).state_dict().items()}
    torch.save({"model": made_up(shapes)}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError) as error:
        load(empty(model), tmp_path / "file.pt")
    headline = str(error.value).splitlines()[0]
    assert headline.startswith(reason) and headline.endswith(f"; did you mean model={file}?")


def test_the_report_counts_by_group_and_names_a_few(small, tmp_path):
    model, weights = small
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    changed = {name: tensor for name, tensor in weights.items() if not name.startswith("memory_encoder.")}
    changed["no_mem_embed"] = torch.zeros(1, 1, 5)
    changed["adapter.weight"] = torch.zeros(2)
    torch.save({"model": changed}, tmp_path / "file.pt")
    with pytest.raises(CheckpointError) as error:
        load(model, tmp_path / "file.pt")
    lines = [line.strip() for line in str(error.value).splitlines()]
    lost = sum(name.startswith("memory_encoder.") for name in weights)
    assert (
        lines[0] == f"file.pt: {len(weights) - lost - 1} of the {len(weights)} tensors of model 'test' match"
    )
    rows = {line[:18].strip(): line[18:].split() for line in lines}
    assert rows["memory encoder"] == ["0", str(lost), "0", "0"]
    assert rows["memory codes"] == ["3", "0", "0", "1"]
    assert rows["other"] == ["0", "0", "1", "0"]
    assert any(line.startswith("missing from the file: memory_encoder.") and "more" in line for line in lines)
    assert "unexpected in the file: adapter.weight" in lines
    assert "of another shape: no_mem_embed (1x1x5 in the file, 1x1x32 here)" in lines
    assert weights_equal(model, before), "a failed strict load must not touch the model"
    report = load(model, tmp_path / "file.pt", strict=False)
    assert torch.equal(model.state_dict()["maskmem_tpos_enc"], weights["maskmem_tpos_enc"])
    assert torch.equal(model.state_dict()["no_mem_embed"], before["no_mem_embed"])
    assert not report.fits and report.unexpected == ("adapter.weight",)


def test_nothing_in_common_is_an_error_even_when_not_strict(small, tmp_path):
    torch.save({"conv1.weight": torch.zeros(3), "fc.bias": torch.zeros(1)}, tmp_path / "resnet.pt")
    with pytest.raises(
        CheckpointError, match=r"no tensor in resnet\.pt has a name.*starts with conv1\.weight, fc\.bias"
    ):
        load(small[0], tmp_path / "resnet.pt", strict=False)


@pytest.mark.parametrize("name", [*OFFICIAL, "demo", "test", "test_2.0"])
def test_every_model_is_identified_from_its_tensors(name):
    weights = empty(name).state_dict()
    assert identify(weights) == name
    assert identify({f"state_dict.model.{key}": tensor for key, tensor in weights.items()}) == name


@pytest.mark.parametrize("name", ["sam2_t", "sam2.1_t", "sam2_l", "sam2.1_l"])
def test_a_model_with_another_width_of_memory_is_still_of_its_version(name):
    with torch.device("meta"):
        narrow = SAM2(configured(name, mem_dim=32, memory_slots=5))
    assert identify(narrow.state_dict()) == name


def test_an_unknown_trunk_is_no_known_model():
    weights = empty("sam2.1_t").state_dict()
    assert identify({k: v for k, v in weights.items() if "blocks.11." not in k}) is None


class Anything:
    """Stands for whatever a pickle may hold."""


def test_a_file_that_needs_pickle_is_refused_with_a_remedy(tmp_path):
    torch.save({"model": {"a": torch.zeros(1)}, "config": Anything()}, tmp_path / "file.pt")
    with pytest.raises(
        CheckpointError, match=r"holds more than tensors \(.*Anything\).*torch\.save\(\{'model'"
    ):
        read(tmp_path / "file.pt")


def test_a_damaged_file_says_how(tmp_path):
    whole = tmp_path / "whole.pt"
    torch.save({"model": {"a": torch.zeros(1000)}}, whole)
    cut = tmp_path / "cut.pt"
    cut.write_bytes(whole.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"cut\.pt is cut off after 2000 bytes"):
        read(cut)
    page = tmp_path / "page.pt"
    page.write_text("<!DOCTYPE html>")
    with pytest.raises(CheckpointError, match=r"page\.pt is no weight file.*starts with b'<!DOCTYPE html>'"):
        read(page)
    pointer = tmp_path / "pointer.pt"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CheckpointError, match=r"pointer\.pt is a git-lfs pointer.*git lfs pull"):
        read(pointer)
    with pytest.raises(CheckpointError, match=r"nothing\.pt does not exist"):
        read(tmp_path / "nothing.pt")
    with pytest.raises(CheckpointError, match=r"is a folder"):
        read(tmp_path)
    (tmp_path / "bad.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(CheckpointError, match=r"bad\.safetensors is damaged"):
        read(tmp_path / "bad.safetensors")


def test_compressed_members_are_refused_before_they_are_unpacked(tmp_path):
    torch.save({"model": {"a": torch.zeros(1_000_000)}}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as source, zipfile.ZipFile(tmp_path / "bomb.pt", "w") as bomb:
        for info in source.infolist():
            bomb.writestr(info.filename, source.read(info), compress_type=zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match=r"bomb\.pt has compressed members"):
        read(tmp_path / "bomb.pt")


def test_a_tensor_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    torch.save({"model": {"a": torch.arange(4.0)}}, tmp_path / "plain.pt")
    with zipfile.ZipFile(tmp_path / "plain.pt") as source, zipfile.ZipFile(tmp_path / "liar.pt", "w") as liar:
        for info in source.infolist():
            pickled, many = source.read(info), b"J\x00\x00\x00\x40"  # 2**30 numbers, in storage and shape
            pickled = pickled.replace(b"cpuq\x08K\x04", b"cpuq\x08" + many)
            liar.writestr(info.filename, pickled.replace(b"K\x00K\x04\x85", b"K\x00" + many + b"\x85"))
    with pytest.raises(CheckpointError, match=r"liar\.pt is damaged or incomplete"):
        read(tmp_path / "liar.pt")


def test_an_interrupted_export_leaves_the_older_file(small, tmp_path, monkeypatch):
    model, _ = small
    export(model, tmp_path / "model.pt")
    before = (tmp_path / "model.pt").read_bytes()

    def full_disk(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="no space"):
        export(model, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_a_model_in_half_precision_or_compiled_exports_the_official_layout(small, tmp_path):
    model, weights = small
    model.load_state_dict(weights)
    export(torch.compile(model.to(torch.bfloat16)), tmp_path / "model.pt")
    exported = torch.load(tmp_path / "model.pt", weights_only=True)["model"]
    assert exported.keys() == weights.keys()
    assert all(torch.equal(exported[k], weights[k].to(torch.bfloat16).float()) for k in weights)


def masked_autoencoder(trunk, name, size_px):
    """timm's plain Hiera with the weights of a SAM 2 trunk: what a start from pre-training is made of."""
    hiera = timm.create_model(name, num_classes=0, img_size=(size_px, size_px))
    state = {k: v for k, v in trunk.state_dict().items() if not k.startswith("pos_embed")}
    state = {k.replace("layers.0", "fc1").replace("layers.1", "fc2"): v for k, v in state.items()}
    side = size_px // 4
    window = trunk.pos_embed_window.tile(1, 1, side // 8, side // 8)
    position = F.interpolate(trunk.pos_embed, (side, side), mode="bicubic") + window
    state["pos_embed"] = position.flatten(2).transpose(1, 2)
    missing, unexpected = hiera.load_state_dict(state, strict=False)
    assert not unexpected and all(key.startswith("head.") for key in missing)
    return hiera.eval()


@pytest.mark.parametrize(
    ("model", "hiera", "size_px"),
    [
        ("sam2.1_t", "hiera_tiny_224", 224),
        ("sam2.1_b+", "hiera_base_plus_224", 224),
        pytest.param("sam2.1_s", "hiera_small_224", 224, marks=pytest.mark.slow),
        pytest.param("sam2.1_l", "hiera_large_224", 256, marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_a_trunk_started_from_a_plain_hiera_sees_the_same(model, hiera, size_px, tmp_path):
    prefix = "image_encoder.trunk."
    official = {k: v for k, v in golden.manifest(model).items() if k.startswith(prefix)}
    drawn = {k: torch.from_numpy(golden.weights.golden_tensor(k, shape)) for k, shape in official.items()}
    reference = build_trunk(resolve(model).trunk)
    reference.load_state_dict({k.removeprefix(prefix): v for k, v in drawn.items()})
    source = masked_autoencoder(reference, hiera, size_px)
    weights = source.state_dict() | {"decoder_norm.weight": torch.ones(3), "mask_token": torch.ones(1)}
    torch.save({"model_state": weights}, tmp_path / "mae.pth")

    started = empty(model).eval()
    report = load_trunk(started, tmp_path / "mae.pth")
    assert len(report.matched) == len(official)
    assert "0.0% of it lost" in str(report) and "decoder_norm, head, mask_token" in str(report)

    x = torch.randn(1, 3, size_px, size_px, generator=torch.Generator().manual_seed(0))
    expected = source.forward_intermediates(x, intermediates_only=True)
    for ours, theirs in zip(maps(started.image_encoder.trunk, x), expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-6 * theirs.abs().max()


def test_the_trunk_of_a_whole_model_can_start_another(small, tmp_path):
    model, weights = small
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.save(
        {"state_dict": {f"net.{name}": tensor for name, tensor in weights.items()}}, tmp_path / "file.pt"
    )
    load_trunk(model, tmp_path / "file.pt")
    trunk = "image_encoder.trunk."
    assert weights_equal(model, {k: (weights if k.startswith(trunk) else before)[k] for k in weights})


def test_a_trunk_alone_is_no_model(small, tmp_path):
    trunk = small[0].image_encoder.trunk.state_dict()
    torch.save(trunk, tmp_path / "mae.pth")
    with pytest.raises(CheckpointError, match=r"for a trunk alone use sam2\.checkpoint\.load_trunk"):
        load(small[0], tmp_path / "mae.pth")


def test_a_trunk_of_another_width_is_refused(small, tmp_path):
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in timm.create_model("hiera_tiny_224").state_dict().items()}
    torch.save(made_up(shapes), tmp_path / "mae.pth")
    with pytest.raises(CheckpointError, match=r'mae\.pth has 12 trunk blocks, model "test trunk" has 4'):
        load_trunk(small[0], tmp_path / "mae.pth")
