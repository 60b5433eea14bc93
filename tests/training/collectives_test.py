# SPDX-License-Identifier: Apache-2.0
"""Operations and bytes, counted by hand in small programs as XLA prints them."""

import pytest

from perceiver_jax.training.collectives import Collective, Total, collectives, gathered_inputs, totals

LOOP = """HloModule jit_step, is_scheduled=true, entry_computation_layout={(f32[8,4]{1,0})->f32[]}

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[]{:T(128)} parameter(0)
  %b = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%a, %b)
}

%inner (q: f32[8,4]) -> f32[8,16] {
  %q = f32[8,4]{1,0:T(8,128)} parameter(0)
  %start = (f32[8,4]{1,0}, f32[8,16]{1,0:T(8,128)}) all-gather-start(%q), dimensions={1}
  ROOT %done = f32[8,16]{1,0} all-gather-done(%start)
}

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[], f32[8,4]{1,0:T(8,128)}) parameter(0)
  %x = f32[8,4]{1,0:T(8,128)} get-tuple-element(%p), index=1
  %y = f32[8,16]{1,0} fusion(%x), kind=kCustom, calls=%inner
}

%unused (p: f32[2]) -> f32[2] {
  ROOT %r = f32[2]{0} all-reduce(%p), to_apply=%add
}

ENTRY %main (p: f32[8,4]) -> f32[] {
  %w = (s32[], f32[8,4]{1,0}) while(%t), condition=%cond, body=%body, backend_config={"known_trip_count":{"n":"6"}}
  %both = (bf16[4,2]{1,0}, f32[3]{0}) all-reduce(%c, %d), replica_groups=mesh['axis_0'=8] {'axis_0'}, to_apply=%add
  %moved = (s8[4]{0}, s8[4]{0}, u32[], u32[]) collective-permute-start(%e), source_target_pairs={{0,1},{1,0}}
  ROOT %last = f32[]{:T(128)} all-reduce(%e), channel_id=1, to_apply=%add, metadata={op_name="jit(step)/all-gather(x)"}
}
"""


def test_each_operation_counts_as_often_as_it_runs():
    found = collectives(LOOP)
    assert sorted(found) == [
        Collective("all-gather", ((8, 16),), 512, 6),
        Collective("all-reduce", ((),), 4, 1),
        Collective("all-reduce", ((4, 2), (3,)), 16 + 12, 1),
        Collective("collective-permute", ((4,),), 4, 1),
    ]
    assert totals(found) == [
        Total("all-gather", 6, 3072),
        Total("all-reduce", 2, 32),
        Total("collective-permute", 1, 4),
    ]


CONDITION = """
%cond (p: (s32[], f32[8,4])) -> pred[] {
  %bound = s32[]{:T(128)} constant(7)
  %turn = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %lt = pred[]{:T(512)} compare(%turn, %bound), direction=LT
}
"""


def test_a_loop_turns_as_often_as_its_condition_says_where_it_does_not_say_itself():
    loop = LOOP.replace("known_trip_count", "other")
    assert collectives(loop)[0].times == 1
    assert collectives(loop.replace("%inner (", f"{CONDITION.strip()}\n\n%inner (", 1))[0].times == 7


def test_an_empty_program():
    assert collectives("") == [] and totals([]) == []


@pytest.mark.parametrize(
    ("input_size", "parameters", "gathered"),
    [
        (100, [], [(8, 16)]),
        (129, [], []),  # less than the input of one example
        (100, [(16, 8)], []),  # a parameter in another layout
        (100, [(6, 8, 16)], []),  # one layer of a stack
        (100, [(2, 4, 16)], []),  # the parts of a gradient that slices exchange
        (100, [(8, 8)], [(8, 16)]),
    ],
)
def test_what_is_gathered_is_an_input_or_a_parameter(input_size, parameters, gathered):
    assert gathered_inputs(collectives(LOOP), input_size, parameters) == gathered


def test_query_key_and_value_gathered_as_one_are_parameters():
    gather = Collective("all-gather", ((8, 3, 8),), 768, 1)
    assert gathered_inputs([gather], 100, [(8, 8)]) == [] and gathered_inputs([gather], 100, [(8, 9)]) == [(8, 3, 8)]
