"""Another source in detector.toml than the one that the pictures in `images/` came from.

Drawn pictures make way by themselves, pictures of the user never do: nothing that cannot be made again is removed.
"""

from pathlib import Path

from scripts.pictures.demo import drawn_sha256
from scripts.pictures.ledger import as_written, stored_pictures
from scripts.pictures.split import SPLITS
from scripts.pipeline.errors import DetectorError
from scripts.pipeline.files import sha256_file
from scripts.pipeline.words import counted

DEMO_FOLDER = "images/source/demo"
OPENIMAGES_FOLDER = "images/source/openimages"
_SHOWN = 3
_ALL_DRAWN = "images/*/fruit_[0-9]*"


def source_of(source) -> dict[str, str]:
    """What `organize.json` keeps of the table [source]: its kind and, of pictures that are not drawn, their path."""
    paths = {"demo": "", "openimages": OPENIMAGES_FOLDER}
    return {"kind": source.kind, "path": paths.get(source.kind, source.path)}


class SourceChange:
    """Compares the source of `ledger` (what `organize.json` says) with that of detector.toml."""

    def __init__(self, root: Path, ledger: dict, source):
        self.root, self.before, self.now = root, ledger["source"], source_of(source)
        self.pictures = stored_pictures(root)
        by_name = {path.stem: path for path in self.pictures.values()}
        # Entries whose picture is still in images/, with that file.
        self.here = [(entry, by_name[entry["name"]]) for entry in ledger["pictures"] if entry["name"] in by_name]

    @property
    def leaves_demo(self) -> bool:
        """Whether the pictures in `images/` were drawn and the source is now another one."""
        return self.before.get("kind") == "demo" and self.now["kind"] != "demo"

    def refuse_drawing(self) -> None:
        """DetectorError when pictures of another source are in `images/` and the source is now the demo."""
        if self.before.get("kind") in ("folder", "openimages") and self.now["kind"] == "demo" and self.here:
            raise self._other_source('source.kind is now "demo"')

    def refuse_edited_drawings(self) -> None:
        """DetectorError when drawn pictures would make way and someone has edited some of them, or may have."""
        if self.now["kind"] == "demo":
            return
        if not self.before:
            self._refuse_drawings_of_lost_ledger()
        edited = [path for entry, path in self.here if not as_written(path, entry)] if self.leaves_demo else []
        if not edited:
            return
        names = [path.relative_to(self.root).with_suffix("").as_posix() for path in edited]
        files = " ".join(f"{name}.*" for name in names) if len(names) <= _SHOWN else _ALL_DRAWN
        more = ", ..." if len(names) > _SHOWN else ""
        raise DetectorError(
            f"{counted(len(edited), 'drawn picture')} edited here would be removed with the demo source: "
            f"{', '.join(names[:_SHOWN])}{more}: to give up the edits type `rm {files}` and run the same command "
            'again; to keep them set source.kind = "demo" in detector.toml'
        )

    def _refuse_drawings_of_lost_ledger(self) -> None:
        drawn = drawn_sha256(self.root / DEMO_FOLDER)
        found = [path for path in self.pictures.values() if sha256_file(path) in drawn] if drawn else []
        if found:
            raise DetectorError(
                f"{counted(len(found), 'drawn picture')} would be mixed with yours, and organize.json, which knew "
                f"whether you edited them, is gone: images/: type `rm {_ALL_DRAWN}` and run the same command again"
            )

    def refuse_other_pictures(self, sha256s: set[str]) -> None:
        """DetectorError when `images/` holds pictures of another folder, downloaded ones included.

        `sha256s` are those of the pictures of the present source: where they include all that came from the old
        path, the folder was only moved.
        """
        theirs = self.before.get("kind") in ("folder", "openimages") and self.here
        if not theirs or _same_folder(self.root, self.before, self.now):
            return
        known = {entry["sha256"] for entry, _ in self.here if not entry.get("gone")}
        missing = known - sha256s
        if missing or not known:
            where = f"source.path is now '{self.now['path']}'" if self.now["kind"] == "folder" else "now Open Images"
            raise self._other_source(f"{where}, which lacks {len(missing):,} of them")

    def _other_source(self, now: str) -> DetectorError:
        listed = {path for _, path in self.here}
        mine = [path for path in self.pictures.values() if path not in listed]
        mine += [path for entry, path in self.here if not as_written(path, entry)]
        lost = f" (this loses {counted(len(mine), 'picture')} edited or added here: copy first)" if mine else ""
        folders = " ".join(f"images/{split}" for split in SPLITS if (self.root / "images" / split).is_dir())
        back = [f'source.kind = "{self.before["kind"]}"'] * (self.now["kind"] != self.before["kind"])
        back += [f'source.path = "{self.before["path"]}"'] * (self.before["kind"] == "folder")
        return DetectorError(
            f"{counted(len(self.here), 'picture')} in images/ came from '{self.before['path']}', {now}: images/: "
            f"to replace them type `rm -r {folders}`{lost} and run the same command again; to go on with them "
            f"set {', '.join(back)} in detector.toml"
        )


def _same_folder(root: Path, before: dict, now: dict) -> bool:
    one, other = before["path"], now["path"]
    return one == other or (root / Path(one).expanduser()).resolve() == (root / Path(other).expanduser()).resolve()
