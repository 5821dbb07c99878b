"""On the line: every photo is judged and every verdict written, in order, however it ends."""

from __future__ import annotations

import csv
import os
import shutil
import signal
from datetime import datetime

import cv2
import numpy as np
import pytest

from tests.unit.inspection.line.standins import Judge, Shades, frames, opener, photo, rows, watched
from visionft.cli import main
from visionft.errors import ConfigError, DataError
from visionft.inspection.inspector import Inspector
from visionft.inspection.line.shots import Event
from visionft.inspection.verdict import Verdict


def test_a_film_is_judged_frame_by_frame_in_order_and_everything_is_written(film, tmp_path):
    out, told = tmp_path / "line", list[Verdict]()
    found = watched(film, Judge(0.002), out=str(out), told=[told.append])
    assert (found.parts, found.rejects, found.dropped, found.ended) == (12, 6, 0, "the source has ended")
    assert frames(out) == [verdict.image for verdict in told] == [f"clip-{at:06}" for at in range(12)]
    *verdicts, last = rows(out)
    assert [row["verdict"] for row in verdicts] == ["good"] * 6 + ["reject"] * 6
    for row in verdicts:
        assert datetime.fromisoformat(row["time"]).tzinfo and row["latency_ms"] >= 2 and row["dropped"] == 0
        assert (row["regions"] != []) == (row["verdict"] == "reject") == ("photo" in row)
    assert verdicts[-1]["regions"][0]["box"][:2] == [0, 0] and verdicts[-1]["regions"][0]["pixels"] > 100
    for row in verdicts[6:]:
        whole = cv2.imread(str(out / row["photo"]))
        drawn, mask = (
            cv2.imread(str(out / row["photo"].replace(".png", f"-{what}.png"))) for what in ("overlay", "mask")
        )
        assert whole.shape == drawn.shape == mask.shape == (48, 64, 3) and mask.min() == 0 and mask.max() == 255
    assert (last["event"], last["parts"], last["rejects"], last["given_up"]) == ("ended", 12, 6, {})
    assert 2 <= last["p50_ms"] <= last["p99_ms"] <= last["slowest_ms"] * 1.01


def test_what_could_be_either_has_pictures_of_its_own_and_is_counted(film, tmp_path):
    found = watched(film, Judge(unsure=100), out=str(tmp_path))
    assert (found.parts, found.rejects) == (12, 6) and 0 < found.unsure < 6
    said = [row for row in rows(tmp_path)[:-1] if row["verdict"] == "unsure"]
    assert len(said) == found.unsure and f"{found.unsure} unsure" in str(found)
    assert all(row["photo"].startswith("unsure/") and (tmp_path / row["photo"]).is_file() for row in said)


def test_a_table_says_the_same_and_is_gone_on_with(film, tmp_path):
    for _ in range(2):
        watched(film, out=str(tmp_path / "line"), log="csv", pictures=False, stop_after=10)
    with (tmp_path / "line" / "verdicts.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == 22 and [row["event"] for row in found if row["event"]] == ["ended"] * 2
    assert found[0]["verdict"] == "good" and found[0]["regions"] == "0" and found[0]["left"] == ""
    assert found[9]["verdict"] == "reject" and found[9]["regions"] == "1" and int(found[9]["right"]) > 0
    assert not (tmp_path / "line" / "rejects").exists()
    (tmp_path / "line" / "verdicts.csv").write_text("image,verdict\n")
    with pytest.raises(ConfigError, match="holds another table"):
        watched(film, out=str(tmp_path / "line"), log="csv")


def test_a_slow_judge_drops_and_counts_but_what_is_judged_is_in_order(tmp_path):
    found = watched(lambda: Shades([100] * 500, 0.001), Judge(0.02), out=str(tmp_path), stop_after=5, buffer=1)
    names = frames(tmp_path)
    assert found.parts == 5 and names == sorted(set(names)) and found.dropped > 10
    drops = [row["dropped"] for row in rows(tmp_path) if "verdict" in row]
    assert drops == sorted(drops) and drops[-1] == found.dropped
    assert found.p50_ms < 150  # with a buffer of one no photo waits longer than one takes


def test_a_lost_camera_is_in_the_log_and_the_end_is_an_error_after_everything_is_written(tmp_path):
    with pytest.raises(DataError, match="camera has given nothing"):
        watched(opener(Shades([50, 200])), out=str(tmp_path), give_up=0.02)
    assert [row.get("event", "part") for row in rows(tmp_path)] == ["part", "part", "camera lost", "ended"]
    assert "has given nothing" in rows(tmp_path)[-1]["text"]
    assert len(list((tmp_path / "rejects").rglob("*.png"))) == 3


def test_what_cannot_be_judged_is_an_event_in_a_folder_and_an_error_from_a_camera(tmp_path):
    box = photo(tmp_path / "box" / "a.png", 0).parent
    photo(box / "b.png", 50)
    found = watched(box, out=str(tmp_path / "line"), stop_after=1)
    assert (found.parts, found.unjudged) == (1, 1)
    event = next(row for row in rows(tmp_path / "line") if row.get("event") == "unreadable")
    assert event["frame"] == "a.png" and "nothing left" in event["text"]
    with pytest.raises(DataError, match="nothing left"):
        watched(opener(Shades([0, 50])))


@pytest.mark.parametrize("log", ["jsonl", "csv"])
def test_photos_of_a_folder_are_judged_exactly_once_across_restarts(tmp_path, log):
    box, out, judged = tmp_path / "box", tmp_path / "line", list[str]()

    def run(count: int) -> None:
        words = {"out": str(out), "log": log, "stop_after": count}
        assert watched(box, told=[lambda verdict: judged.append(verdict.image)], **words).parts == count

    for at in range(5):
        photo(box / f"{at}.png", 40 + 30 * at, at=1e9 + at)
    (box / "damaged, and early.png").write_bytes(b"x")
    os.utime(box / "damaged, and early.png", (1e8, 1e8))
    run(2)
    run(3)
    photo(box / 'new, "quoted".png', 99)
    run(1)
    assert judged == [*(f"{at}.png" for at in range(5)), 'new, "quoted".png']
    assert (out / f"verdicts.{log}").read_text().count("unreadable") == 1


def test_ctrl_c_ends_it_with_every_line_whole_and_a_summary(tmp_path):
    def stop(verdict: Verdict) -> None:
        if verdict.image.endswith("7"):
            signal.raise_signal(signal.SIGINT)

    found = watched(lambda: Shades([60] * 1000, 0.001), out=str(tmp_path), told=[stop])
    assert found.ended == "stopped" and rows(tmp_path)[-1]["event"] == "ended"
    assert len(frames(tmp_path)) == found.parts


def test_whatever_ends_it_what_was_judged_is_in_the_log(film, tmp_path):
    def fail(verdict: Verdict) -> None:
        if verdict.image.endswith("5"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        watched(film, out=str(tmp_path / "line"), told=[fail])
    assert len(frames(tmp_path / "line")) == 6 and rows(tmp_path / "line")[-1]["ended"] == "interrupted"


def test_events_that_listeners_return_are_logged_as_any_other(film, tmp_path):
    def drift(verdict: Verdict) -> Event | None:
        return Event("drift", "darker than before") if verdict.image.endswith("3") else None

    watched(film, out=str(tmp_path / "line"), told=[drift, lambda verdict: 7], stop_after=5)
    assert [row["event"] for row in rows(tmp_path / "line") if "event" in row] == ["drift", "ended"]


def test_an_inspector_watches_a_film_from_python_and_from_the_command_line(tmp_path, capsys):
    rng, good = np.random.default_rng(0), tmp_path / "good"
    good.mkdir()
    for at in range(24):
        cv2.imwrite(str(good / f"{at}.png"), rng.normal(120, 6, (48, 64, 3)).clip(0, 255).astype(np.uint8))
    run, film, out = str(tmp_path / "run"), str(tmp_path / "clip.avi"), tmp_path / "line"
    eyes = [{"name": "patches", "layers": [1, 2]}]
    inspector = Inspector.fit(good, backbone="test_resnet", weights="none", eyes=eyes, false_reject=0.05, quiet=True)
    inspector.save(run)
    writer = cv2.VideoWriter(film, cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for at in range(6):
        frame = cv2.imread(str(good / f"{at}.png"))
        if at >= 4:
            frame[10:40, 20:50] = (0, 0, 255)
        writer.write(frame)
    writer.release()
    found = inspector.watch(film, quiet=True)
    assert found.parts == 6 and found.rejects >= 2
    assert main(["inspect", "watch", run, film, f"out={out}", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith(f"6 parts; {found.rejects} rejects")
    last = [row for row in rows(out) if "verdict" in row][-1]
    left, top, right, bottom = last["regions"][0]["box"]
    assert 15 < (left + right) / 2 < 55 and 10 < (top + bottom) / 2 < 40
    shutil.rmtree(run)
    assert main(["inspect", "watch", run, film]) == 2 and "run" in capsys.readouterr().err
