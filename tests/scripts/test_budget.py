"""The budget of the rooms: what it says where one does not fit."""

from __future__ import annotations

from scripts.budget import Size, complaints, sizes, table


def test_a_room_above_its_lines_is_named_with_both_numbers() -> None:
    (complaint,) = complaints({"hub": Size(1, 11)}, {"hub": 10})
    assert complaint.startswith("hub has 11 lines of the 10 it may have: delete something first")


def test_a_room_at_its_lines_fits() -> None:
    assert complaints({"hub": Size(1, 10)}, {"hub": 10}) == []


def test_rooms_without_a_budget_and_budgets_without_a_room_are_named() -> None:
    found = complaints({"new": Size(1, 1)}, {"old": 5})
    assert [complaint.partition(" ")[0] for complaint in found] == ["new", "old"]


def test_every_file_counts_in_one_room() -> None:
    measured = sizes()
    assert {"protocol", "trunkline", "hub", "edge", "methods", "methods/vectors"} <= measured.keys()
    assert measured["hub"].files > 10
    assert measured["hub"].lines > sum(measured["hub"].functions)
    assert "all" in table(measured, {}).splitlines()[-1]
