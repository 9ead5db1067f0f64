"""What a labeller relies on: nothing is lost, parts go to the right object, and it is seen how far one has come."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import vlpart
from tests.serve.conftest import png
from tests.serve.studio import Open, Studio


def clicked(page: Studio, *points: tuple[float, float]) -> None:
    """Click points of the photo."""
    frame = page.page.locator("#canvasA").bounding_box()
    scale, x, y = page.page.evaluate("[vlpart.camera.scale, vlpart.camera.x, vlpart.camera.y]")
    for px, py in points:
        page.page.mouse.click(
            frame["x"] + frame["width"] / 2 + (px - x) * scale, frame["y"] + frame["height"] / 2 + (py - y) * scale
        )


def drawn(page: Studio, name: str, *corners: tuple[float, float]) -> None:
    """Draw a polygon."""
    page.page.locator("#canvasA").focus()
    page.press("Escape", "p")
    clicked(page, *corners)
    page.press("Enter")
    page.page.fill("#naming-name", name)
    page.press("Enter", "v")


def reloaded(page: Studio) -> None:
    page.until("vlpart.isKept()")
    page.page.reload()
    page.until("vlpart.state.models.length > 0")
    page.page.wait_for_timeout(300)


def test_photos_and_corrections_are_there_again_until_they_are_taken_off(studio: Open) -> None:
    page = studio()
    page.sample("person: hair, mouth")
    page.page.locator("[role=treeitem]").nth(1).click()
    page.press("F2")
    page.page.fill("#naming-name", "person:helmet")
    page.press("Enter")
    drawn(page, "rocket", (400, 60), (480, 60), (480, 140), (400, 140))
    before = page.rows()
    assert "rocket, added by hand" in before
    reloaded(page)
    page.until("vlpart.state.photos.length === 1")
    assert page.rows() == before
    assert page.page.input_value("#vocabulary") == "person: hair, mouth"
    assert page.page.evaluate("vlpart.state.photos[0].runs.A.key === JSON.stringify(['tiny', 'person: hair, mouth'])")
    assert ", corrected" in str(page.page.locator(".photo").get_attribute("aria-label"))
    second = page.context.new_page()  # another tab begins with nothing, and takes nothing away
    second.goto(page.page.url)
    for _ in range(600):
        if second.evaluate("window.vlpart?.state.models.length > 0"):
            break
        second.wait_for_timeout(100)
    second.wait_for_timeout(500)
    assert second.evaluate("vlpart.state.photos.length") == 0
    second.close()
    drawn(page, "flag", (20, 20), (90, 20), (90, 90))
    reloaded(page)
    assert len(page.rows()) == len(before) + 1
    page.page.click("#remove-all")
    page.until("vlpart.state.photos.length === 0")
    reloaded(page)
    assert page.page.is_visible("#welcome")


def test_what_shall_not_be_kept_is_not(studio: Open) -> None:
    page = studio()
    page.page.click("#open-help")
    page.page.uncheck("#keep")
    page.press("Escape")
    page.sample("person: hair")
    page.page.wait_for_timeout(800)
    assert not page.page.evaluate("vlpart.isKept()")
    page.page.reload()
    page.until("vlpart.state.models.length > 0")
    page.page.wait_for_timeout(300)
    assert page.page.is_visible("#welcome")


def test_corrections_stay_when_a_search_fails(studio: Open) -> None:
    page = studio()
    page.sample("person: hair")
    drawn(page, "rocket", (400, 60), (480, 60), (480, 140), (400, 140))
    body = json.dumps({"detail": "no"})
    page.page.route(
        "**/v1/predict", lambda route: route.fulfill(status=413, content_type="application/json", body=body)
    )
    page.page.fill("#vocabulary", "person: mouth")
    page.page.press("#vocabulary", "Enter")
    page.until("vlpart.state.photos[0].runs.A.status === 'error'")
    assert page.rows() == ["rocket, added by hand"]
    page.page.unroute("**/v1/predict")
    page.page.get_by_role("button", name="Find").click()
    page.until("vlpart.state.photos[0].runs.A.status === 'done'")
    assert {"rocket", "person:mouth"} <= set(page.names())
    page.errors = [line for line in page.errors if "413" not in line]


def test_a_part_goes_to_the_object_that_a_person_says(studio: Open, tmp_path: Path) -> None:
    def groups() -> list[tuple[str, list[str]]]:
        saved = vlpart.Result.load(page.download("json", path=tmp_path))
        return sorted((group.name, sorted(saved.names[i] for i in group.parts)) for group in saved.objects)

    page = studio()
    page.sample("dog: tail")  # nothing of the kind in it
    drawn(page, "dog", (20, 20), (120, 20), (120, 120), (20, 120))
    drawn(page, "dog", (300, 20), (480, 20), (480, 200), (300, 200))
    drawn(page, "dog:nose", (320, 40), (360, 40), (360, 80), (320, 80))
    assert groups() == [("dog", []), ("dog", ["dog:nose"])]
    page.press("F2")  # what was drawn last is selected
    options = page.page.locator("#naming-owner option").all_inner_texts()
    assert [option.partition(",")[0] for option in options] == [
        "the object that it lies in",
        "dog",
        "dog",
        "none of these",
    ]
    here = page.page.evaluate(
        "vlpart.state.photos[0].runs.A.detections.filter((each) => each.name === 'dog')"
        ".find((each) => each.box[0] < 200).id"
    )
    page.page.select_option("#naming-owner", here)
    page.page.fill("#naming-name", "dog:ear")
    assert page.page.input_value("#naming-owner") == here
    page.press("Enter")
    saved = vlpart.Result.load(page.download("json", path=tmp_path))
    (owner,) = [group for group in saved.objects if group.parts]
    assert saved.boxes_xyxy[owner.index][0] < 200 and [saved.names[i] for i in owner.parts] == ["dog:ear"]
    page.press("F2")
    page.page.select_option("#naming-owner", "")
    page.press("Enter")
    assert groups() == [("dog", []), ("dog", [])]
    page.press("Control+z", "Control+z")
    assert groups() == [("dog", []), ("dog", ["dog:nose"])]


def test_done_photos_are_counted_and_downloaded(studio: Open, tmp_path: Path) -> None:
    page = studio()
    page.sample("person: hair")
    blank: dict[str, Any] = {"name": "x.png", "mimeType": "image/png", "buffer": png()}
    page.page.set_input_files("#files", [blank, {**blank, "name": "y.png"}])
    page.until("vlpart.state.photos.length === 3 && vlpart.state.photos.every((p) => p.runs.A?.status === 'done')")
    page.page.locator(".photo").first.click()
    found = len(page.rows())
    page.press("d")
    page.until("document.querySelector('#progress').innerText === '1 of 3 done'")
    page.page.locator("#threshold").fill("0.95")
    page.page.wait_for_timeout(100)
    assert "nothing found" in str(page.page.locator(".photo").nth(1).get_attribute("aria-label"))
    page.page.locator("#threshold").fill("0.5")
    assert page.page.evaluate("vlpart.state.photos.findIndex((p) => p.id === vlpart.state.current)") == 1
    page.page.get_by_role("button", name="Done, next").click()
    page.page.locator(".photo").first.click()
    assert len(page.rows()) == found and all(row.split(", ")[1] == "accepted" for row in page.rows())
    saved = json.loads(page.download("coco", path=tmp_path, photos="#only-done").read_text())
    assert [image["file_name"] for image in saved["images"]] == ["astronaut.jpg", "x.png"]
    page.page.get_by_role("button", name="Not done").click()
    page.until("document.querySelector('#progress').innerText === '1 of 3 done'")
