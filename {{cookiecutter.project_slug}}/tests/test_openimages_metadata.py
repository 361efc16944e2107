"""Open Images: names of classes however they are written, the tree, and what `--list` finds."""

import csv
import io
import random
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
from openimages_server import APPLE, CAR, HEADER, IMPATIENT, NAMES, PEPPER, SQUASH, TAXI, Server

from scripts.core.text import DetectorError
from scripts.core.transfer import open_at
from scripts.data.openimages import slices
from scripts.data.openimages.class_names import (
    RENAMED,
    matching,
    nearest,
    owners,
    read_class_names,
    resolve,
)
from scripts.data.openimages.row_picker import RowPicker
from scripts.data.openimages.slices import Slice


@pytest.mark.parametrize(
    ("label", "mid"),
    [
        ("Apple", APPLE),
        ("apple", APPLE),
        ("APPLES", APPLE),
        ("Bell_pepper", PEPPER),  # as OIDv4_ToolKit wants it on the command line
        ("bell-peppers", PEPPER),
        ("taxis", TAXI),
        ("Squash", SQUASH),  # version 4
        ("squash (plant)", SQUASH),
        ("Kitchen_&_dining_room_table", "/m/0h8n5zk"),
        ("kitchen & dining room tables", "/m/0h8n5zk"),
        ("headphone", "/m/01b7fy"),
        ("glasses", "/m/0jyfg"),
    ],
)
def test_a_name_is_found_however_it_is_written(label, mid):
    assert resolve([label], NAMES) == {mid: label}


@pytest.mark.parametrize("mid", RENAMED)
def test_renamed_classes_are_found_by_both_names_in_both_versions(mid):
    for own_name in RENAMED[mid]:
        names = {"/m/0k4j": "Car", mid: own_name}
        assert [list(resolve([asked], names)) for asked in RENAMED[mid]] == [[mid], [mid]]


def test_the_words_that_name_no_class_are_all_said_at_once_with_the_nearest():
    with pytest.raises(DetectorError) as error:
        resolve(["Aple", "Car", "bell paper", "Qqq"], NAMES)
    text = str(error.value)
    assert "'Aple' (did you mean 'Apple'?)" in text
    assert "'bell paper' (did you mean 'Bell pepper'?)" in text
    assert "'Qqq':" in text and "Car" not in text and "\n" not in text


@pytest.mark.parametrize("label", ["glass", "app", "pepper", "carr"])
def test_a_name_is_not_stretched_to_another_class(label):
    with pytest.raises(DetectorError):
        resolve([label], NAMES)


def test_two_labels_for_one_class_are_refused():
    with pytest.raises(DetectorError, match="'apple' and 'Apples' are one class"):
        resolve(["apple", "Apples"], NAMES)


def test_lists_with_and_without_a_header_read_the_same():
    for text in ("LabelName,DisplayName\n/m/1,A\n", '/m/1,"A"\r\n'):
        assert read_class_names(text) == {"/m/1": "A"}
    with pytest.raises(ValueError):
        read_class_names("<html>sign in</html>")


def test_words_find_classes_by_old_and_new_names():
    assert list(matching("peppers", NAMES)) == [PEPPER]
    assert list(matching("SQUASH", NAMES)) == [SQUASH]
    assert len(matching("", NAMES)) == len(NAMES)
    assert nearest("pepers", NAMES) == ["Bell pepper"]


TREE = {"LabelName": "all", "Subcategory": [
    {"LabelName": "vehicle", "Subcategory": [
        {"LabelName": CAR, "Subcategory": [{"LabelName": TAXI}], "Part": [{"LabelName": "wheel"}]},
        {"LabelName": "ship"}]},
    {"LabelName": "rented", "Subcategory": [{"LabelName": "ship"}]}]}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([CAR], {CAR: CAR, TAXI: CAR}),  # parts are no kinds
        (["vehicle", CAR], {"vehicle": "vehicle", CAR: CAR, TAXI: CAR, "ship": "vehicle"}),
        ([TAXI, "vehicle"], {TAXI: TAXI, "vehicle": "vehicle", CAR: "vehicle", "ship": "vehicle"}),
        (["rented", "vehicle"],
         {"rented": "rented", "vehicle": "vehicle", CAR: "vehicle", TAXI: "vehicle",
                                 "ship": "rented"}),
    ],
)  # fmt: skip
def test_kinds_go_to_the_nearest_class_that_was_asked(asked, expected):
    assert owners(asked, TREE) == expected


# Open Images: huge tables are filtered exactly, and read on after whatever stops them.


COLUMNS = HEADER.split(",")
# Shorter and longer than 8 and 16 letters, beginnings of one another, letters beyond ASCII.
MIDS = ["/m/01", "/m/0k4j", "/m/0k4jx", "/m/01234567", "/m/0123456", "/m/0123456789abcdef",
        "/m/0123456789abcdeg",
        "/m/é"]


def table(rows: int, columns: list[str] = COLUMNS, **values) -> str:
    """A table of boxes in any order of columns; `values` are functions of a random generator."""
    dice = random.Random(7)
    makers = {"LabelName": lambda: dice.choice(MIDS),
              "ImageID": lambda: f"{dice.randrange(1 << 64):016x}"}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for _ in range(rows):
        writer.writerow([values[name](dice) if name in values
                         else makers.get(name, lambda: f"{dice.random():.4f}")()
                         for name in columns])
    return out.getvalue()


def pick_all(text: str, column: str, wanted, size: int, counted=()) -> tuple[str, dict]:
    data = text.encode()
    header, _, rest = data.partition(b"\n")
    picker, kept, counts, carry, rows = RowPicker(header, column, wanted, counted), [], {}, b"", 0
    for begin in [*range(0, len(rest), size), None]:
        block = rest[begin : begin + size] if begin is not None else b""
        picked = picker.pick(carry + block, last=begin is None)
        carry = (carry + block)[picked.used :]
        kept.append(picked.kept)
        rows += picked.rows
        for name, count in picked.counts.items():
            counts[name] = counts.get(name, 0) + count
    assert carry == b""
    return (header + b"\n" + b"".join(kept)).decode(), counts | {"rows": rows}


def title(dice: random.Random) -> str:
    return dice.choice(["plain", 'with "quotes"', "with, comma", "two\nlines", 'x"\n"y', "", "\r\n",
                        "é"])


@pytest.mark.parametrize("size", [97, 4096, 1 << 20])
@pytest.mark.parametrize(
    "text",
    [
        table(500),
        table(500, COLUMNS[::-1]),  # another order, the class in another place
        table(500, ["LabelName", "XMin"]),
        table(500, ["XMin", "LabelName"]),
        table(500, [*COLUMNS, *(f"XClick{n}X" for n in range(1, 5))]),
        table(500)[:-1],  # no line feed at the end
        table(500).replace("\n", "\r\n"),
        table(500, [*COLUMNS, "Title"], Title=title),
        table(500, ["Title", *COLUMNS], Title=title),
    ],
)
def test_what_is_kept_is_what_a_full_parse_keeps(text, size):
    whole = pandas.read_csv(io.StringIO(text, newline=""), dtype=str, keep_default_na=False)
    for wanted in ([MIDS[1]], MIDS[2:5], MIDS[-3:]):
        kept, counts = pick_all(text, "LabelName", wanted, size, MIDS)
        got = pandas.read_csv(io.StringIO(kept, newline=""), dtype=str, keep_default_na=False)
        assert got.values.tolist() == whole[whole["LabelName"].isin(wanted)].values.tolist()
        assert counts == {**whole["LabelName"].value_counts().to_dict(), "rows": len(whole)}


def test_a_quote_that_never_closes_costs_its_own_row_only(monkeypatch):
    monkeypatch.setattr("scripts.data.openimages.row_picker._LONGEST_ROW_BYTES", 3000)
    lines = [f'{n:04d},plain\n' for n in range(500)]
    lines[100] = '0100,"open\n'
    kept, _ = pick_all("ImageID,Title\n" + "".join(lines), "ImageID",
                       [f"{n:04d}" for n in (5, 50, 300, 499)], 512)
    assert [line[:4] for line in kept.splitlines()[1:]] == ["0005", "0050", "0300", "0499"]


class Bucket:
    def __init__(self, folder: Path):
        (folder / "site").mkdir(parents=True)
        self.server, self.folder = Server(folder / "site"), folder
        self.file = folder / "site/boxes.csv"
        self.file.write_text(table(4000), "utf-8")

    def slice(self, base: str = "", **options) -> Slice:
        url = f"{base or self.server.url}/boxes.csv"
        return Slice(self.folder / "kept", "boxes", url, "LabelName", MIDS,
                     **{"patience": IMPATIENT, **options})

    def expected(self, wanted) -> list:
        whole = pandas.read_csv(self.file, dtype=str)
        return sorted(whole[whole["LabelName"].isin(wanted)].values.tolist())

    def kept(self) -> list:
        return sorted(pandas.read_csv(self.folder / "kept/boxes.csv", dtype=str).values.tolist())


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    monkeypatch.setattr(slices, "_BLOCK_BYTES", 20_000)
    monkeypatch.setattr(slices, "_SAVE_EVERY_BYTES", 20_000)
    monkeypatch.setattr("scripts.core.transfer._PIECE_BYTES", 5_000)
    made = Bucket(tmp_path)
    yield made
    made.server.close()


def test_a_second_run_reads_nothing_and_a_new_class_is_added(bucket):
    bucket.slice().ensure(MIDS[:2])
    assert bucket.kept() == bucket.expected(MIDS[:2])
    assert sum(bucket.slice().counts.values()) == 4000 and len(bucket.server.requests) == 1
    bucket.slice().ensure(MIDS[:1])
    assert len(bucket.server.requests) == 1
    bucket.slice().ensure(MIDS[:3])
    assert bucket.kept() == bucket.expected(MIDS[:3])
    assert len(bucket.server.requests) == 2
    assert not list((bucket.folder / "kept").glob("*unfinished*"))


def test_a_file_address_needs_no_server(bucket):
    bucket.slice(bucket.file.parent.as_uri()).ensure(MIDS[:2])
    assert bucket.kept() == bucket.expected(MIDS[:2]) and bucket.server.requests == []


@pytest.mark.parametrize("fault", ["truncated", "reset", "slow", 500, 503])
def test_trouble_on_the_way_is_overcome(bucket, fault):
    bucket.server.fail("boxes.csv", fault, fault, None)
    bucket.slice().ensure(MIDS[:2])
    assert bucket.kept() == bucket.expected(MIDS[:2])
    if fault in ("truncated", "reset"):
        starts = [int(path.partition("@")[2] or 0) for path in bucket.server.requests]
        assert starts[0] == 0 < starts[1] < starts[2]


def test_a_run_that_gave_up_is_continued_by_the_next(bucket):
    bucket.server.fail("boxes.csv", "reset", 500)
    with pytest.raises(DetectorError,
                       match="the server answers 500.*same command again; it goes on after"):
        bucket.slice().ensure(MIDS[:2])
    bucket.server.faults.clear()
    bucket.server.asked("")
    bucket.slice().ensure(MIDS[:2])
    (request,) = bucket.server.requests
    assert int(request.partition("@")[2]) > 100_000
    assert bucket.kept() == bucket.expected(MIDS[:2])
    assert sum(bucket.slice().counts.values()) == 4000


def test_ctrl_c_loses_nothing(bucket, monkeypatch):
    blocks, real = [], RowPicker.pick

    def stop_at_fifth(self, block, last=False):
        blocks.append(block)
        if len(blocks) == 5:
            raise KeyboardInterrupt
        return real(self, block, last)

    monkeypatch.setattr(RowPicker, "pick", stop_at_fifth)
    with pytest.raises(KeyboardInterrupt):
        bucket.slice().ensure(MIDS)
    # Written, and not yet noted as written.
    with (bucket.folder / "kept/boxes.unfinished.csv").open("a") as file:
        file.write("junk" * 100_000)
    bucket.slice().ensure(MIDS)
    assert int(bucket.server.requests[1].partition("@")[2]) > 60_000
    assert bucket.kept() == bucket.expected(MIDS)


@pytest.mark.parametrize("change", ["no ranges", "a new file", "a new file, If-Range ignored"])
def test_what_cannot_be_continued_starts_over(bucket, change):
    bucket.server.fail("boxes.csv", "reset", 500)
    with pytest.raises(DetectorError):
        bucket.slice().ensure(MIDS[:2])
    bucket.server.faults.clear()
    if change == "no ranges":
        bucket.server.ranges = False
    else:
        bucket.server.etag, bucket.server.if_range = '"two"', change == "a new file"
        bucket.file.write_text(table(3000, COLUMNS[::-1]), "utf-8")
    bucket.slice().ensure(MIDS[:2])
    assert bucket.kept() == bucket.expected(MIDS[:2])


def test_other_classes_after_an_interruption_start_over(bucket):
    bucket.server.fail("boxes.csv", "reset", 500)
    with pytest.raises(DetectorError):
        bucket.slice().ensure(MIDS[:2])
    bucket.server.faults.clear()
    bucket.slice().ensure(MIDS[2:4])
    assert bucket.kept() == bucket.expected(MIDS[2:4])


def test_a_new_file_on_the_server_replaces_what_was_kept_of_the_old_one(bucket):
    bucket.slice().ensure(MIDS[:2])
    bucket.server.etag = '"two"'
    bucket.file.write_text(table(3000, XMin=lambda dice: "0.9"), "utf-8")
    bucket.slice().ensure(MIDS[:3])
    assert bucket.kept() == bucket.expected(MIDS[:3])


def test_a_missing_file_and_another_layout_are_one_line(bucket):
    bucket.server.fail("boxes.csv", 404)
    with pytest.raises(DetectorError,
                       match=r"404.*boxes.csv: correct openimages.metadata_url") as error:
        bucket.slice().ensure(MIDS)
    assert "\n" not in str(error.value) and len(bucket.server.requests) == 1
    bucket.server.faults.clear()
    bucket.file.write_text("<html>\nsign in</html>\n", "utf-8")
    with pytest.raises(DetectorError, match="no column LabelName"):
        bucket.slice().ensure(MIDS)


PEAK = """
import re, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from scripts.data.openimages.slices import Slice
Slice(Path(sys.argv[3]), "x", Path(sys.argv[2]).as_uri(), "LabelName", ["/m/01"]).ensure(["/m/01"])
try:  # on Linux, ru_maxrss begins with the peak of the process that started this one
    print(int(re.search("VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1000)
except OSError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000_000)
"""


def test_memory_does_not_grow_with_the_file(tmp_path):
    peaks_mb = []
    for times in (50, 500):  # 5 and 50 MB
        file = tmp_path / f"{times}.csv"
        body = table(1000).partition("\n")[2]
        with file.open("w", encoding="utf-8") as out:
            out.write(HEADER + "\n")
            out.writelines(body for _ in range(times))
        command = [sys.executable, "-c", PEAK, str(Path(__file__).parent.parent), str(file),
                   str(tmp_path / str(times))]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        assert done.returncode == 0, done.stderr
        peaks_mb.append(float(done.stdout))
    assert peaks_mb[1] - peaks_mb[0] < 15


def test_a_file_is_read_on_only_if_it_did_not_change(tmp_path):
    file = tmp_path / "a b.csv"
    file.write_bytes(b"0123456789")
    with open_at(file.as_uri()) as body:
        seen = body.validator
    with open_at(file.as_uri(), 4, seen) as body:
        assert (body.start, b"".join(body.pieces())) == (4, b"456789")
    file.write_bytes(b"other bytes")
    with open_at(file.as_uri(), 4, seen) as body:
        assert (body.start, b"".join(body.pieces())) == (0, b"other bytes")
