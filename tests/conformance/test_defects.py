"""Every defect of the original that agent.md 1.10 lists has tests that show ours is right, and they are named here.

A test that is renamed or deleted fails this one, and so does one that does not say which defect it is about. D22: what
is here is the client's part of MCP; the gateway serves no MCP of its own yet.
"""

import ast
import gc
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DEFECTS = 28

SHOWN: Mapping[str, Sequence[str]] = {
    "D1": (
        "agent/test_runner.py::test_a_call_is_run_and_its_result_goes_back_to_the_model",
        "agent/providers/test_two_rounds.py::test_the_result_of_a_call_brings_the_answer",
        "agent/providers/test_two_rounds.py::test_the_server_has_seen_what_the_golden_says",
        "protocol/wires/test_anthropic.py::test_all_results_of_a_turn_are_one_message_with_the_results_first",
        "protocol/wires/test_openai_chat.py::test_calls_and_results_stay_pairs_whatever_their_ids",
        "protocol/wires/test_gemini.py::test_results_stay_apart_from_what_the_user_says_next",
    ),
    "D2": (
        "protocol/wires/test_openai_chat.py::test_parallel_calls_keep_their_order_and_their_pieces_however_they_are_mixed",
        "agent/test_runner.py::test_calls_of_one_turn_run_together_and_their_results_keep_call_order",
        "conformance/test_runs_apart.py::test_runs_at_the_same_time_leave_nothing_of_theirs_in_each_other",
    ),
    "D3": (
        "protocol/wires/test_openai_chat.py::test_a_system_message_stays_where_it_was_said",
        "protocol/wires/test_anthropic.py::test_system_messages_are_part_of_the_system_prompt",
        "protocol/wires/test_gemini.py::test_system_messages_are_part_of_the_system_instruction",
    ),
    "D4": (
        "conformance/test_doors_alike.py::test_a_run_is_the_same_by_every_door_to_its_last_event_and_its_last_message",
        "conformance/test_doors_alike.py::test_a_message_is_cleaned_and_judged_by_every_door_before_anything_is_stored_or_asked",
        "conformance/test_doors_alike.py::test_what_one_door_was_answered_another_is_answered_from_memory_and_is_looked_at_again",
        "conformance/test_doors_alike.py::test_a_model_that_failed_by_one_door_is_left_alone_by_all_and_what_was_said_is_kept",
    ),
    "D5": (
        "protocol/wires/test_openai_chat.py::test_content_in_the_chunk_of_the_finish_reason_is_not_lost",
        "protocol/wires/test_openai_chat.py::test_calls_are_judged_by_the_calls_and_not_by_the_reason",
        "protocol/wires/test_openai_chat.py::test_done_alone_finishes_an_answer_and_nothing_is_read_behind_it",
        "api/test_chat_api.py::test_a_stream_is_the_run_from_its_first_to_its_terminal_event",
        "protocol/test_grammar.py::test_what_may_not_stand_there_is_found",
    ),
    "D6": (
        "agent/test_runner.py::test_an_answer_that_is_cut_by_its_length_ends_the_run_and_says_so",
        "agent/test_runner.py::test_a_call_that_was_cut_by_the_length_is_not_run_and_the_run_ends",
    ),
    "D7": (
        "conformance/test_streams.py::test_a_body_ends_right_behind_its_terminal_event_and_its_connection_goes_on",
        "conformance/test_resume_cuts.py::test_a_stream_cut_at_any_byte_goes_on_behind_its_last_whole_event",
        "conformance/test_hosted_resume.py::test_a_hosted_run_of_200_events_is_whole_wherever_its_reader_is_cut",
        "conformance/test_hosted_resume.py::test_a_hosted_run_that_asks_a_person_is_whole_wherever_its_reader_is_cut",
    ),
    "D8": (
        "conformance/test_doors_alike.py::test_server_sent_events_tell_results_findings_and_what_a_run_used_in_the_originals_names",
        "api/test_chat_api.py::test_a_stream_leaves_out_the_pieces_of_a_call_and_sends_it_whole",
    ),
    "D9": (
        "conformance/test_bad_readers.py::test_who_does_not_read_costs_a_cursor_and_who_reads_late_has_everything",
        "gateway/test_slow_sockets.py::test_a_client_that_asks_on_without_reading_is_closed",
        "gateway/test_run_log.py::test_the_ring_keeps_exactly_its_bound",
        "gateway/test_run_log.py::test_a_run_waits_when_it_is_too_far_ahead_of_the_store",
        "ops/test_audit.py::test_entries_beyond_the_queue_are_dropped_counted_and_told",
        "conformance/test_cancel.py::test_a_run_outlives_its_stream_unless_its_client_wants_it_to_end_with_it",
        "conformance/test_cancel.py::test_a_run_outlives_its_socket_unless_its_client_wants_it_to_end_with_it",
        "conformance/test_cancel_provider.py::test_at_twenty_points_a_cancel_closes_the_models_socket_at_once",
        "agent/providers/test_hosted.py::test_closing_the_answer_after_any_event_closes_the_socket",
    ),
    "D10": (
        "gateway/test_approvals.py::test_an_approved_call_runs_after_the_answer_and_not_before",
        "gateway/test_approvals.py::test_where_nobody_can_answer_the_call_is_denied_at_once",
        "agent/builtin_skills/test_human_approval.py::test_a_call_that_nobody_agreed_to_is_denied",
        "api/test_approvals_api.py::test_every_socket_of_the_owner_hears_of_it_and_no_other",
        "api/test_approvals_api.py::test_a_client_hears_the_request_as_an_event_and_in_the_originals_frame_and_answers_it",
    ),
    "D11": (
        "agent/test_permissions.py::test_read_only_looks_at_the_effect_and_never_at_the_name",
        "agent/test_permissions.py::test_read_only_denies_what_gets_and_deletes",
    ),
    "D12": (
        "conformance/test_skill_caps.py::test_whatever_a_model_calls_a_skill_with_ends_in_time_and_within_its_size",
        "conformance/test_skill_caps.py::test_arguments_are_held_against_the_schema_of_every_skill_before_it_runs",
        "agent/test_clearance.py::test_nobody_is_asked_about_a_call_that_its_skill_would_refuse",
        "agent/test_skills.py::test_a_skill_that_does_not_answer_times_out",
        "agent/test_skills.py::test_a_long_output_is_cut_to_the_limit_with_a_mark",
        "agent/mcp/test_mcp_arguments.py::test_what_is_wrong_names_the_field_and_all_the_right_ones",
        "agent/mcp/test_mcp_http.py::test_a_call_that_takes_too_long_is_given_up",
        "agent/mcp/test_mcp_processes.py::test_tools_are_skills_that_are_called_as_any_other",
    ),
    "D13": (
        "protocol/test_sse_reader.py::test_a_character_split_between_chunks_is_whole",
        "protocol/test_sse_reader.py::test_data_needs_no_space_and_loses_only_one",
        "agent/providers/test_hosted.py::test_a_stream_that_is_cut_at_any_byte_never_finishes",
        "agent/providers/test_hosted.py::test_an_error_within_a_stream_is_an_error",
        "protocol/wires/test_openai_chat.py::test_an_error_inside_the_stream_is_that_error",
        "protocol/wires/test_anthropic.py::test_an_error_inside_the_stream_is_that_error",
        "protocol/wires/test_gemini.py::test_an_error_inside_the_stream_is_that_error",
        "agent/providers/test_faulty_models.py::test_a_stream_that_breaks_after_its_first_word_is_truncated",
    ),
    "D14": (
        "agent/providers/test_hosted.py::test_the_key_goes_in_the_header_that_the_provider_wants_and_nowhere_else",
        "protocol/wires/test_gemini.py::test_the_model_is_in_the_path_and_the_key_is_not",
        "protocol/wires/test_gemini.py::test_made_ids_differ_in_an_answer_and_from_answer_to_answer",
    ),
    "D15": (
        "agent/resilience/test_breaker.py::test_half_open_admits_one_probe_at_a_time",
        "agent/resilience/test_failover.py::test_ten_calls_at_once_are_one_request_while_half_open",
        "agent/providers/test_build.py::test_ten_calls_at_once_are_one_request_to_a_provider_that_was_left_alone",
    ),
    "D16": (
        "agent/resilience/test_retry.py::test_the_class_of_an_error_decides_and_never_its_words",
        "agent/resilience/test_failover.py::test_what_will_not_pass_is_not_tried_again",
        "agent/providers/test_build.py::test_what_will_not_pass_is_not_tried_again",
    ),
    "D17": (
        "agent/test_response_cache.py::test_whatever_shapes_the_answer_or_whose_it_is_makes_another_question",
        "agent/test_response_cache.py::test_only_at_temperature_nought_is_anything_kept",
    ),
    "D18": (
        "agent/test_guarded_runs.py::test_personal_data_is_taken_out_of_an_answer_before_it_leaves",
        "agent/test_guarded_runs.py::test_a_blocked_answer_ends_the_run_and_nothing_of_it_is_told_or_stored",
        "conformance/test_doors_alike.py::test_what_one_door_was_answered_another_is_answered_from_memory_and_is_looked_at_again",
    ),
    "D19": (
        "conformance/test_runs_apart.py::test_runs_at_the_same_time_leave_nothing_of_theirs_in_each_other",
        "agent/test_run_spans.py::test_a_run_its_turns_and_its_calls_are_one_tree_below_what_asked",
    ),
    "D20": (
        "ops/test_audit.py::test_entries_stand_in_the_order_in_which_they_were_recorded",
        "ops/test_audit.py::test_what_was_recorded_before_the_end_is_on_the_disk_after_it",
        "ops/test_audit_failures.py::test_a_process_that_is_killed_loses_nothing_that_was_flushed",
    ),
    "D21": (
        "conformance/test_skill_caps.py::test_a_model_is_offered_the_same_skills_in_the_same_order_by_every_process",
        "agent/test_skills.py::test_skills_are_listed_by_name_whatever_their_order",
        "protocol/wires/test_openai_chat.py::test_tools_are_sent_in_the_order_given",
    ),
    "D22": (
        "agent/mcp/test_mcp_processes.py::test_a_server_of_the_first_era_is_understood_and_its_odd_tools_are_dealt_with",
        "agent/mcp/test_mcp_http.py::test_tools_are_skills_whether_answers_are_streams_or_not",
        "agent/mcp/test_mcp_http.py::test_a_session_that_its_server_forgot_is_made_anew_and_one_that_is_not_needed_is_ended",
    ),
    "D23": (
        "conformance/test_many_clients.py::test_fifty_clients_on_ten_sessions_lose_no_message_and_no_order",
        "contracts/session_store.py::test_concurrent_appends_lose_nothing_and_keep_each_callers_order",
        "gateway/test_conversation.py::test_two_runs_on_one_socket_interleave_and_each_is_closed_by_its_own_last_frame",
        "gateway/test_conversation.py::test_a_message_for_anothers_session_or_run_finds_none",
        "conformance/test_ownership.py::test_nobody_speaks_in_another_s_session",
    ),
    "D24": ("api/test_chat_api.py::test_a_run_that_fails_is_a_declared_problem_for_who_waits_for_one_answer",),
    "D25": (
        "sessions/test_schema_sql.py::test_no_statement_replaces_rows",
        "contracts/session_store.py::test_whatever_is_stored_again_leaves_a_sessions_messages",
    ),
    "D26": (
        "conformance/test_outbound.py::test_a_model_reaches_public_addresses_alone_whatever_it_writes_and_wherever_it_is_led",
        "conformance/test_outbound.py::test_a_name_that_changes_its_mind_is_asked_once_and_what_was_judged_is_what_is_reached",
        "conformance/test_outbound.py::test_a_body_that_unfolds_without_end_is_cut_while_it_is_read",
        "agent/opt_in_skills/test_http_fetch.py::test_the_body_is_capped_while_it_is_read",
        "net/test_http.py::test_a_redirect_to_a_refused_address_is_refused",
    ),
    "D27": (
        "agent/builtin_skills/test_calculator.py::test_an_expression_follows_the_usual_precedence",
        "agent/builtin_skills/test_calculator.py::test_an_expression_nests_to_the_bound_and_no_deeper",
    ),
    "D28": (
        "conformance/test_hosted_runs.py::test_runs_of_a_hosted_model_that_are_killed_are_interrupted_and_their_sessions_go_on",
        "conformance/test_doors_alike.py::test_a_model_that_failed_by_one_door_is_left_alone_by_all_and_what_was_said_is_kept",
        "conformance/test_doors_alike.py::test_a_message_is_cleaned_and_judged_by_every_door_before_anything_is_stored_or_asked",
        "conformance/test_doors_alike.py::test_a_session_that_cannot_be_read_is_not_taken_for_a_new_one",
    ),
}
"""The tests of each defect, as `file::name` below `tests`; of the contracts they are methods."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Collect no garbage meanwhile: what others left can run code then, and CPython 3.11 ends a parse for that."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@cache
def functions(file: str) -> Mapping[str, str]:
    """Return the source of each test function and method of a file, with its docstring and its comments."""
    source = (TESTS / file).read_text()
    with undisturbed():
        lines, tree = source.splitlines(), ast.parse(source)
    about = ast.get_docstring(tree) or ""
    found = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name: "\n".join((about, *lines[node.lineno - 1 : node.end_lineno])) for node in found}


def test_every_defect_is_in_the_table():
    assert list(SHOWN) == [f"D{number}" for number in range(1, DEFECTS + 1)]


@pytest.mark.parametrize("defect", SHOWN)
def test_the_tests_of_a_defect_are_there_and_say_so(defect):
    assert SHOWN[defect]
    for test in SHOWN[defect]:
        file, _, name = test.partition("::")
        assert name in functions(file), f"{test} is gone: which test shows now that ours is right?"
        assert re.search(rf"\b{defect}\b", functions(file)[name]), f"{test} does not say that it is about {defect}"
