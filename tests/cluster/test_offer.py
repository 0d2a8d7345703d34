"""What a node says of its models: what they need, whether they fit, what is wrong."""

import pytest

from cluster.fit import MIB, need_of
from cluster.nodes import Gpu, OfferedModel
from cluster.offer import Room, judged, room_of, with_told

GIB = 1024**3


def model(**more):
    return OfferedModel(**{"name": "m:1b", "digest": "d", "size_bytes": GIB, "context_tokens": 4096, "is_loaded": False, **more})


def loaded(took, on_gpu):
    return model(is_loaded=True, took_bytes=took, gpu_bytes=on_gpu)


def gpu(free=8 * GIB, **more):
    return Gpu(**{"uuid": "GPU-1", "name": "RTX", "total_bytes": 12 * GIB, "free_bytes": free, **more})


def judge(one, *, needed=None, room=None, has_gpu=True, allows_partial=False):
    return judged(one, needed_bytes=needed, room=room or Room(free_bytes=None), has_gpu=has_gpu, allows_partial=allows_partial)


def test_a_model_that_is_wholly_on_the_gpu_is_well():
    said = judge(loaded(2 * GIB, 2 * GIB))
    assert (said.fits, said.trouble) == (True, "")


def test_a_model_that_is_partly_on_the_gpu_is_not_used_unless_the_operator_allows_it():
    said = judge(loaded(4 * GIB, 3 * GIB))
    assert (said.fits, said.trouble) == (False, "only 3.00 GiB of its 4.00 GiB are in the GPU's memory: it is slow")
    allowed = judge(loaded(4 * GIB, 3 * GIB), allows_partial=True)
    assert (allowed.fits, allowed.trouble) == (True, said.trouble)


def test_a_model_on_the_processor_beside_a_gpu_is_told():
    assert judge(loaded(4 * GIB, 0)).trouble == "it runs on the processor although there is a GPU"
    assert judge(loaded(4 * GIB, 0), has_gpu=False).trouble == ""
    assert judge(loaded(4 * GIB, 0)).fits


def test_what_the_runtime_said_already_stays_told():
    assert judge(model(is_loaded=True, trouble="its context shrank")).trouble == "its context shrank"


@pytest.mark.parametrize(
    ("needed", "free", "held", "is_fitting"), [(8, 10, 0, True), (9, 10, 0, False), (9, 4, 8, True), (None, 1, 0, True), (9, None, 0, True)]
)
def test_a_cold_model_fits_when_the_idle_ones_can_make_room(needed, free, held, is_fitting):
    room = Room(free_bytes=free and free * GIB, held_bytes=held * GIB, on_gpu=True)
    assert judge(model(), needed=needed and needed * GIB, room=room).fits is is_fitting


def test_a_refusal_names_both_figures():
    room = Room(free_bytes=4 * GIB, on_gpu=True)
    assert judge(model(), needed=6 * GIB, room=room).trouble == (
        "m:1b needs 6.00 GiB and 3.40 GiB of the GPU's memory can be used (4.00 GiB are free)"
    )


def test_room_is_on_the_gpus_unless_the_runtime_does_not_use_them():
    assert room_of([gpu(), gpu(free=GIB)], [loaded(2 * GIB, 2 * GIB)], 64 * GIB) == Room(
        free_bytes=9 * GIB, held_bytes=2 * GIB, on_gpu=True
    )
    assert room_of([gpu()], [loaded(2 * GIB, 0)], 64 * GIB) == Room(free_bytes=64 * GIB, held_bytes=2 * GIB)
    assert room_of([], [], 64 * GIB) == Room(free_bytes=64 * GIB)
    assert room_of([], [], None) == Room(free_bytes=None)


def test_a_card_in_mig_mode_gives_room_through_its_parts_alone():
    card, part = gpu(mig=True, free=70 * GIB), gpu(mig=True, part_of="GPU-1", free=10 * GIB)
    assert room_of([card], [], 64 * GIB).on_gpu is False
    assert room_of([part], [], 64 * GIB).free_bytes == 10 * GIB


def test_a_gpu_that_only_the_runtime_knows_is_listed_and_its_free_memory_is_unknown():
    (told,) = with_told([], [loaded(3 * GIB, 3 * GIB)])
    assert (told.is_measured, told.total_bytes) == (False, 3 * GIB)
    assert room_of([told], [loaded(3 * GIB, 3 * GIB)], 64 * GIB).free_bytes is None
    assert with_told([], [loaded(3 * GIB, 0)]) == ()
    assert with_told([gpu()], [loaded(3 * GIB, 3 * GIB)]) == (gpu(),)


def test_a_need_is_unknown_where_the_runtime_does_not_tell_the_shape():
    info = {
        "general.architecture": "llama", "llama.block_count": 30, "llama.attention.head_count": 9, "llama.attention.head_count_kv": 3,
        "llama.embedding_length": 576,
    }  # fmt: skip
    need = need_of(info, 94 * MIB, context_tokens=2048, slots=1, on_gpu=False)
    assert need == 94 * MIB + 45 * MIB + 28 * MIB
    for broken in ({}, info | {"llama.attention.head_count": 0}, info | {"llama.block_count": "many"}):
        assert need_of(broken, 1, context_tokens=1, slots=1, on_gpu=False) is None
