"""The page in a real browser: the main ways through it. Skipped where there is no Chromium."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vlpart
from tests.serve.conftest import png
from tests.serve.studio import WORDS, Open, Studio
from vlpart.masks.stack import MaskStack
from vlpart.serve.app import SAMPLE


def test_what_the_page_shows_at_a_threshold_is_what_the_library_finds(studio: Open) -> None:
    page = studio()
    page.sample()
    for threshold in (0.47, 0.3, 0.62):
        page.page.locator("#threshold").fill(str(threshold))
        result = vlpart.load("tiny")(SAMPLE, vocabulary=WORDS, score_threshold=threshold)
        result = result.without_nested().without_overlapping()
        expected = []
        for group in result.objects:
            expected += [group.name, *(result.names[i] for i in group.parts)]
        assert page.names() == expected + [result.names[i] for i in result.loose_parts]
    assert page.page.evaluate("vlpart.state.photos.length") == 1


def test_names_are_completed_and_wrong_ones_are_explained(studio: Open) -> None:
    page = studio()
    page.page.focus("#vocabulary")
    page.page.keyboard.type("perso")
    labels = page.page.locator("#suggestions .label").all_inner_texts()
    assert labels[:2] == ["person:", "person"]
    page.press("ArrowDown", "ArrowDown", "Enter")
    page.page.keyboard.type(": no")
    assert "nose" in page.page.locator("#suggestions .label").all_inner_texts()
    page.press("ArrowDown", "Enter")
    assert page.page.input_value("#vocabulary") == "person: nose"
    page.page.keyboard.type(", nose")
    page.until("document.querySelector('#vocabulary-message').textContent.includes('named twice')")
    assert page.page.get_attribute("#vocabulary", "aria-invalid") == "true"
    page.errors = [line for line in page.errors if "422" not in line]  # the browser notes the refusal


def test_correcting_by_keyboard_and_undoing_it(studio: Open) -> None:
    page = studio()
    page.sample()
    before = page.names()
    page.page.locator("[role=treeitem]").first.focus()
    page.press("ArrowDown", "a")
    assert page.rows()[1] == f"{before[1]}, accepted"
    page.press("F2")
    page.page.fill("#naming-name", "person:snout")
    page.press("Enter")
    assert page.rows()[1].startswith("person:snout, corrected")
    page.press("Space")
    assert page.rows()[1].endswith("left out")
    page.press("Delete")
    assert page.names() == [before[0], *before[2:]]
    page.press("Control+z")
    assert "person:snout" in page.names()
    page.press("Control+z", "Control+z", "Control+z")
    assert page.names() == before
    page.press("Control+Shift+z")
    assert page.rows()[1] == f"{before[1]}, accepted"


def test_drawing_gives_masks_that_the_downloads_have(studio: Open, tmp_path: Path) -> None:
    page = studio()
    page.sample()
    frame = page.page.locator("#canvasA").bounding_box()
    scale = page.page.evaluate("vlpart.camera.scale")
    x, y = page.page.evaluate("[vlpart.camera.x, vlpart.camera.y]")
    x0, y0 = frame["x"] + frame["width"] / 2 - x * scale, frame["y"] + frame["height"] / 2 - y * scale
    page.page.locator("#canvasA").focus()
    page.press("Escape", "p")
    for x, y in ((400, 60), (480, 60), (480, 140), (400, 140)):
        page.page.mouse.click(x0 + x * scale, y0 + y * scale)
    page.press("Enter")
    page.page.fill("#naming-name", "rocket")
    page.press("Enter")
    assert "rocket, added by hand" in page.rows()
    page.press("b")
    page.page.mouse.move(x0 + 440 * scale, y0 + 140 * scale)
    page.page.mouse.down()
    page.page.mouse.move(x0 + 440 * scale, y0 + 240 * scale, steps=6)
    page.page.mouse.up()
    page.page.check("[role=treeitem] input >> nth=0")
    saved = vlpart.Result.load(page.download("json", path=tmp_path))
    mask = saved.masks[saved.names.index("rocket")]
    assert mask[62:138, 402:478].all() and not mask[:55].any() and not mask[:, :395].any()
    assert mask[150:240, 438:442].all() and not mask[200, 420] and not mask[200, 460]
    assert saved.scores[saved.names.index("rocket")] == 1
    rows = len(page.rows())
    assert len(saved) == rows
    page.press("e")
    page.page.mouse.move(x0 + 440 * scale, y0 + 60 * scale)
    page.page.mouse.down()
    page.page.mouse.move(x0 + 440 * scale, y0 + 240 * scale, steps=6)
    page.page.mouse.up()
    saved = vlpart.Result.load(page.download("json", path=tmp_path))
    assert not saved.masks[saved.names.index("rocket")][60:240, 438:442].any()


def test_masks_of_the_page_are_masks_of_the_library(studio: Open) -> None:
    """Run lengths and outlines that are made in the browser, of a region with a hole, pieces and single pixels."""
    rng = np.random.default_rng(3)
    bitmap = np.zeros((40, 50), dtype=bool)
    bitmap[5:30, 8:40] = rng.random((25, 32)) < 0.6
    bitmap[10:20, 12:30], bitmap[12:15, 15:20] = True, False
    data = json.dumps(bitmap[3:35, 5:45].astype(int).reshape(-1).tolist())
    script = f"""import("/static/js/masks.js").then((masks) => {{
      const region = {{ x: 5, y: 3, width: 40, height: 32, data: Uint8Array.from({data}) }};
      const path = masks.pathOf(masks.ringsOfRegion(region, 0));
      const again = masks.regionOf([0, 0, 50, 40], (context) => context.fill(path, "evenodd"));
      return [masks.rleOf(region, 50, 40), [...again.data], masks.boxOfRegion(region)];
    }})"""
    rle, again, box = studio().page.evaluate(script)
    assert np.array_equal(MaskStack.from_rles([rle])[0], bitmap)
    assert np.array_equal(np.reshape(again, (40, 50)) == 1, bitmap)
    ys, xs = np.nonzero(bitmap)
    assert box == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


def test_two_vocabularies_side_by_side_and_files_of_all_photos(studio: Open, tmp_path: Path) -> None:
    page = studio()
    page.sample("person: mouth")
    page.page.set_input_files("#files", [{"name": "x.png", "mimeType": "image/png", "buffer": png()}])
    page.until("vlpart.state.photos.length === 2 && vlpart.state.photos.every((p) => p.runs.A?.status === 'done')")
    page.page.click("#compare")
    page.find("person: eye", side="B")
    page.page.locator(".photo").first.click()
    page.page.click("#sideA")
    assert "person:mouth" in page.names()
    page.page.click("#sideB")
    assert set(page.names()) <= {"person", "person:eye"}
    assert "person: mouth" in page.page.inner_text("#titleA") and "person: eye" in page.page.inner_text("#titleB")
    archive = zipfile.ZipFile(page.download("image", "coco", "labelme", path=tmp_path, photos="#all-photos"))
    assert set(archive.namelist()) == {
        *("coco.json", "labelme/astronaut.json", "labelme/x.json"),
        *("astronaut_parts.jpg", "x_parts.jpg"),
    }


def test_a_file_that_is_no_photo_is_named(studio: Open) -> None:
    page = studio()
    page.page.set_input_files("#files", [{"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"}])
    page.until("!document.querySelector('#toast').hidden")
    assert "notes.txt is no photo" in page.page.inner_text("#toast")
    assert page.page.is_visible("#welcome")


def test_a_pasted_photo_and_zooming(studio: Open) -> None:
    page = studio()
    page.page.evaluate(
        """fetch("/static/sample.jpg").then((answer) => answer.blob()).then((blob) => {
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([blob], "pasted.jpg", { type: "image/jpeg" }));
          dispatchEvent(new ClipboardEvent("paste", { clipboardData }));
        })"""
    )
    page.until("vlpart.state.photos[0]?.runs.A?.status === 'done'")
    whole = page.page.evaluate("vlpart.camera.scale")
    page.page.locator("#canvasA").focus()
    page.press("+", "+")
    assert page.page.evaluate("vlpart.camera.scale") == pytest.approx(whole * 1.25**2)
    page.press("1")
    assert page.page.evaluate("vlpart.camera.scale") == pytest.approx(1)
    page.press("0")
    assert page.page.evaluate("vlpart.camera.scale") == pytest.approx(whole)


def test_a_photo_from_the_camera(studio: Open) -> None:
    page = studio(permissions=["camera"])
    page.page.get_by_role("button", name="Use the camera").click()
    page.until("document.querySelector('video').videoWidth > 0")
    page.page.click("#snap")
    page.until("vlpart.state.photos[0]?.runs.A?.status === 'done'")
    assert page.page.evaluate("vlpart.state.photos[0].name") == "camera_1.jpg"
    assert page.page.evaluate("document.querySelector('video').srcObject") is None


def test_a_phone_shows_everything_in_its_width(studio: Open) -> None:
    page = studio(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True, color_scheme="dark")
    page.sample()
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 360
    before = page.names()
    page.page.locator("[role=treeitem]").nth(1).tap()
    page.until("vlpart.state.selected !== null")
    page.page.locator("[role=treeitem]").nth(1).get_by_title("Delete (Del)").tap()
    assert page.names() == [before[0], *before[2:]]


def test_a_word_that_the_model_does_not_know_is_named(studio: Open) -> None:
    page = studio()
    page.sample("person: zxqvy, hair")
    page.until("document.querySelector('#vocabulary-message').textContent.includes('knows no zxqvy')")
    page.find("person: hair")
    assert page.page.inner_text("#vocabulary-message") == "1 object, 1 part"


def test_a_busy_server_is_waited_for_and_that_is_said(studio: Open) -> None:
    page = studio()
    left = [2]

    def refuse(route: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            route.continue_()
        else:
            body = json.dumps({"detail": "64 images wait already"})
            route.fulfill(status=429, headers={"Retry-After": "1"}, content_type="application/json", body=body)

    page.page.route("**/v1/predict", refuse)
    page.page.fill("#vocabulary", "person: hair")
    page.page.get_by_role("button", name="Try the sample").click()
    page.until("document.querySelector('#busyA .what').textContent.startsWith('Others are first')")
    page.until("vlpart.state.photos[0].runs.A.status === 'done'")
    assert page.names()[0] == "person"
    page.errors = [line for line in page.errors if "429" not in line]  # the browser notes the refusals


def test_a_server_that_is_gone_or_refuses_is_said(studio: Open) -> None:
    page = studio()
    page.sample()
    page.page.route("**/v1/vocabulary", lambda route: route.abort())
    page.page.fill("#vocabulary", "person: mouth")
    page.press("Enter")
    page.until("document.querySelector('#vocabulary-message').textContent.includes('does not answer')")
    page.page.unroute("**/v1/vocabulary")
    body = json.dumps({"detail": "the image has 63,000,000 pixels"})
    page.page.route(
        "**/v1/predict", lambda route: route.fulfill(status=413, content_type="application/json", body=body)
    )
    page.press("Enter")
    page.until("vlpart.state.photos[0].runs.A.status === 'error'")
    assert "63,000,000 pixels" in page.page.inner_text("#nothing")
    assert "63,000,000 pixels" in page.page.inner_text("#toast")
    page.page.unroute("**/v1/predict")
    page.page.get_by_role("button", name="Find").click()  # again, now that it can
    page.until("vlpart.state.photos[0].runs.A.status === 'done'")
    page.errors = [line for line in page.errors if "413" not in line and "ERR_FAILED" not in line]


def violations(page: Studio) -> list[str]:
    """What axe-core finds wrong by WCAG 2.2 (A, AA) and good practice."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page.page).response["violations"]
    return [f"{each['id']}: {node['html'][:120]}" for each in found for node in each["nodes"]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"color_scheme": "dark"},
        {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True},
    ],
    ids=["light", "dark", "phone"],
)
def test_nothing_stands_in_the_way_of_people_who_see_or_move_otherwise(studio: Open, options: dict[str, Any]) -> None:
    page = studio(**options)
    assert violations(page) == []
    page.sample()
    assert len(page.rows()) > 2 and violations(page) == []
    page.page.locator("[role=treeitem]").nth(1).click()
    page.press("F2")
    assert page.page.locator("#naming[open]").count() == 1 and violations(page) == []
    page.press("Escape")
    for opens, dialog in (("#open-download", "#download"), ("#open-help", "#help")):
        page.page.click(opens)
        assert page.page.locator(f"{dialog}[open]").count() == 1 and violations(page) == []
        page.press("Escape")
    page.page.click("#compare")
    page.until("vlpart.state.photos[0].runs.B?.status === 'done'")
    assert violations(page) == []
    page.page.fill("#vocabulary", "")
    page.page.focus("#vocabulary")
    page.page.keyboard.type("person")
    page.until("!document.querySelector('#suggestions').hidden")
    assert violations(page) == []


def test_undoing_never_undoes_the_words(studio: Open) -> None:
    page = studio()
    page.sample()
    page.press("/", "End")
    page.page.keyboard.type(", arm")
    page.press("Escape")
    page.page.focus("#threshold")
    page.press("Control+z", "Control+z", "Control+y")
    assert page.page.input_value("#vocabulary") == f"{WORDS}, arm"


def test_what_is_selected_shows_with_the_masks_off(studio: Open) -> None:
    page = studio()
    page.sample()
    picture = "document.querySelector('#canvasA').toDataURL()"
    page.page.focus("#canvasA")
    page.press("m")
    bare = page.page.evaluate(picture)
    page.page.locator("[role=treeitem]").nth(1).click()
    page.page.mouse.move(600, 5)
    page.page.wait_for_timeout(200)
    assert page.page.evaluate(picture) != bare
    page.page.focus("#canvasA")
    page.press("Escape")
    page.until("vlpart.state.selected === null && vlpart.state.hovered === null", 10)
    assert page.page.evaluate(picture) == bare


def test_a_dropped_photo_to_a_corrected_file_by_keyboard_alone(studio: Open, tmp_path: Path) -> None:
    page = studio()
    page.page.evaluate(
        """fetch("/static/sample.jpg").then((answer) => answer.blob()).then((blob) => {
          const dataTransfer = new DataTransfer();
          dataTransfer.items.add(new File([blob], "dropped.jpg", { type: "image/jpeg" }));
          for (const kind of ["dragenter", "dragover", "drop"])
            document.body.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
        })"""
    )
    page.until("vlpart.state.photos[0]?.runs.A?.status === 'done'")
    page.press("/")
    page.page.keyboard.type(WORDS)
    page.press("Escape", "Enter")
    page.until("vlpart.state.photos[0].runs.A.status === 'done' && vlpart.state.photos[0].runs.A.key.includes('torso')")
    for _ in range(30):  # to the list
        if page.page.evaluate("document.activeElement.role") == "treeitem":
            break
        page.press("Tab")
    before = page.names()
    heard: list[str] = []
    page.page.expose_function("hear", lambda text: heard.append(text))
    page.page.evaluate(
        "new MutationObserver(() => document.querySelector('#live').textContent"
        " && hear(document.querySelector('#live').textContent))"
        ".observe(document.querySelector('#live'), { childList: true, characterData: true, subtree: true })"
    )
    page.press("ArrowDown", "Delete")
    page.until("document.querySelector('#live').textContent.includes('was deleted')")
    assert page.page.evaluate("document.activeElement.role") == "treeitem"
    page.press("F2")
    page.page.keyboard.type("person:helmet")
    page.press("Enter")
    page.until("document.querySelector('#live').textContent.includes('helmet')")
    assert any("was deleted" in text for text in heard)
    assert page.page.evaluate("document.activeElement.role") == "treeitem"
    for _ in range(40):
        if page.page.evaluate("document.activeElement.id") == "open-download":
            break
        page.press("Shift+Tab")
    page.press("Enter")
    boxes = page.page.locator("[name=format]").count()
    for _ in range(boxes):
        value, checked = page.page.evaluate("[document.activeElement.value, document.activeElement.checked]")
        if checked != (value == "json"):
            page.press("Space")
        page.press("Tab")
    for _ in range(6):
        if page.page.evaluate("document.activeElement.id") == "download-now":
            break
        page.press("Tab")
    with page.page.expect_download() as waiting:
        page.press("Enter")
    waiting.value.save_as(tmp_path / "corrected.json")
    saved = vlpart.Result.load(tmp_path / "corrected.json")
    assert "person:helmet" in saved.names and len(saved) == len(before) - 1
