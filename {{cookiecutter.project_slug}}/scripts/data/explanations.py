"""The catalog of everything that can be wrong with labeled images, and its texts.

A code is never used twice. E codes are errors: they stop the pipeline unless `check.accept` names
them. W codes are warnings. R codes are what `organize` repaired without loss.
"""

import textwrap
from dataclasses import dataclass

from scripts.core.text import DetectorError, nearest

SEVERITIES = {"E": "error", "W": "warning", "R": "repaired"}


@dataclass(frozen=True)
class Code:
    """One kind of finding.

    Attributes:
        title: What it is, in a few words.
        advice: What to do about it.
        why: What it is and why it matters, in plain sentences.
        repair: What `invoke check --fix` does; "" when only a person can decide.
        accepted: What follows when `check.accept` names the code. Errors only.
    """

    code: str
    title: str
    advice: str
    why: str
    repair: str = ""
    accepted: str = ""

    @property
    def severity(self) -> str:
        """Return `error`, `warning` or `repaired`, from the letter of the code."""
        return SEVERITIES[self.code[0]]


# In the order in which people read them: errors, warnings, repairs.
_CODES = (
    Code("E001", "class is not in source.labels",
         advice="correct the name, or add it to source.labels",
         why="source.labels lists the classes to learn, and this box has another class. Often it "
             "is a typing error or a different case (`Aple`, `APPLE`). TensorFlow would drop such "
             "boxes without a message, and the model would learn their objects as background.",
         repair="renames another spelling of a label, and a typing error of at most two letters "
                "after the first, if it can mean no other label and is not more frequent than the "
                "right name",
         accepted="right if you list only some of the classes on purpose: boxes of the others are "
                  "dropped and counted in annotations/csv.json"),
    Code("E002", "class without boxes in a split",
         advice="label more images of it, or move some between the splits",
         why="A class has no box in train, validation or test. The model cannot learn it without "
             "boxes in train. Without boxes in test its AP is undefined (the TF Object Detection "
             "API warned `The following classes have no ground truth examples`). A misspelled name "
             "in one split looks the same.",
         accepted="the class stays in the label map; its AP is null where it has no boxes"),
    Code("E003", "box is inverted",
         advice="swap its corners in the label file",
         why="xmin is greater than xmax, or ymin than ymax. The loss of such a box is negative or "
             "not a number, which is how `LossTensor is inf or nan` begins. Some tools write the "
             "corners in another order: look whether all boxes are inverted.",
         repair="swaps the corners when both lie inside the image",
         accepted="the box is dropped and counted in annotations/csv.json; the model then learns "
                  "its object as background"),
    Code("E004", "box is smaller than check.min_box_px",
         advice="delete the box or draw it again",
         why="A side of the box is shorter than check.min_box_px. A box without area gives nothing "
             "to learn and makes some losses infinite. Usually someone clicked where they meant to "
             "drag.",
         repair="drops it when a side is shorter than 1 pixel; larger ones need a person",
         accepted="a box without area is dropped and counted; one with area is used as it is"),
    Code("E005", "box is outside the image",
         advice="draw it again; the size or the EXIF orientation of the image may be wrong",
         why="A box reaches beyond the border. If it is a little, the mouse slipped. If it is "
             "much, the boxes belong to another size or to the rotated view of the image, and then "
             "all of them are in the wrong place. The TF Object Detection API stopped hours later "
             "with `maximum box coordinate value is larger than 1.1`, or with a loss of nan.",
         repair="clips it to the image when it leaves by at most 10 % of the side",
         accepted="sensible for small overhangs: the box is clipped to the image, or dropped when "
                  "nothing of it is inside, and counted in annotations/csv.json"),
    Code("E006", "size in the label file is not the image's",
         advice="correct <size>; look whether the boxes fit",
         why="The size in the label file is not that of the image beside it in images/. The image "
             "may have been resized or rotated after it was labeled; then the boxes do not fit. "
             "(organize corrects the size in what it copies and reports R202.)",
         repair="writes the real size, unless the sizes show a resized or rotated image or a box "
                "needs the written size",
         accepted="sensible when the boxes fit: only the real size is used"),
    Code("E007", "image has an EXIF orientation",
         advice='set source.exif = "displayed" if the boxes were drawn on the upright view, '
                '"stored" if on the file as it is',
         why="The camera stored the image rotated and noted in its EXIF data how to show it "
             "upright. Viewers and some labeling tools follow the note, TensorFlow does not. If "
             "the boxes were drawn on the upright view, they are beside their objects or outside "
             "the image. Only you know which tool was used: look with `invoke preview`.",
         repair='with source.exif = "displayed" rotates the pixels (JPEG, quality 95), with '
                '"stored" only removes the orientation from the EXIF data; with "error" it leaves '
                "the image",
         accepted="the pixels are used as they are stored, and the boxes with them"),
    Code("E008", "coordinate is not a number",
         advice="correct the number or delete the box",
         why="A corner of a box is missing, empty, `nan` or no number. One such box makes the loss "
             "not a number, and after it every weight of the model.",
         repair="drops the box",
         accepted="the box is dropped and counted in annotations/csv.json; the model then learns "
                  "its object as background"),
    Code("E009", "labels without their image",
         advice="add the image, or delete its label file or entry",
         why="A label file names an image that is not there. The image may be missing or have "
             "another name. As long as it is not found, its labels are lost.",
         accepted="the label file is not used"),
    Code("E010", "image cannot be read",
         advice="replace the image, or delete it with its label file",
         why="The file cannot be decoded: cut off by a broken download, empty, or not an image "
             "(HEIC photographs of an iPhone are not read either). Training would stop on it, "
             "perhaps after hours, with `Unable to decode bytes as JPEG, PNG, GIF, or BMP`.",
         accepted="the image is left out"),
    Code("E011", "same image in two splits",
         advice="delete it from one of them: a score on an image that was learned says nothing",
         why="The same image is in train and in validation or test. The model has learned the "
             "answer, so its score on this image says nothing about new images.",
         accepted="the scores are too good by an unknown amount"),
    Code("E012", "image without a label file",
         advice='label it; for those of the source also: source.unlabeled = "negative" (shows none '
                'of the classes) or "skip"',
         why="An image has no label file. It may have been forgotten, or show none of the classes. "
             "Used as it is, it would teach that everything in it is background.",
         accepted="the image is left out"),
    Code("E014", "more boxes in an image than a model finds",
         advice="cut the image into parts, or accept it: training uses all boxes, the score is "
                "lower",
         why="The exported models report at most 100 objects in an image, and scoring counts no "
             "more. Training uses all boxes, but the model misses the objects beyond 100 whatever "
             "it learns. Boxes marked as group_of or is_crowd do not count.",
         accepted="sensible for a few images; nothing is dropped, the recall on these images is "
                  "lower"),
    Code("E019", "label file cannot be read",
         advice="correct or delete the label file",
         why="The label file is broken, or is not in the format that its name says. Its labels are "
             "unknown, so the image cannot be used either.",
         accepted="the image is left out"),
    Code("E020", "several files fit one name",
         advice="keep one of them",
         why="One name fits several files: two label files for an image, or two images for a label "
             "file. Pairing them would be a guess, and a wrong guess puts boxes on another image.",
         accepted="what organize could not pair is left out; two images of one name in images/ "
                  "share their label file"),
    Code("E021", "box without a class",
         advice="write its <name>",
         why="A box has corners and no class, usually because someone closed the labeling tool "
             "without choosing one.",
         accepted="the box is dropped and counted in annotations/csv.json; the model then learns "
                  "its object as background"),
    Code("E022", "image in images/ is neither JPEG nor PNG",
         advice="move it to the source, where organize converts it, or save it as JPEG or PNG",
         why="An image that you put into images/ is WebP, TIFF or another format that training "
             "does not decode, whatever its name says. organize writes images of the source as "
             "JPEG or PNG.",
         repair="writes it as JPEG (quality 95) if it was lossy, else as PNG, under the same name; "
                "a rotated one only when source.exif says which view counts",
         accepted="records stops on it if TensorFlow cannot decode it"),
    Code("W101", "classes are out of balance",
         advice="label more of the rare classes, or expect less of them",
         why="A class has a tenth of the training boxes of the largest class, or less. The model "
             "sees it too seldom to learn it as well. The mean AP hides that; the AP per class in "
             "`invoke evaluate` shows it."),
    Code("W102", "many boxes are tiny for the model",
         advice="choose a model.id with a larger input, or cut images into parts",
         why="The model sees every image stretched to a small square. One box in twenty or more is "
             "under 8 x 8 pixels there, the size of one cell of the finest feature map. Such "
             "objects are hardly ever found. A larger input or smaller sections of the images "
             "help."),
    Code("W103", "many boxes are marked as not to be learned or scored",
         advice="look whether the marks are right",
         why="A quarter of the boxes or more are marked as group_of, is_crowd or difficult. "
             "Training ignores groups and crowds, and scoring ignores all three. Much of the "
             "labeling has no effect."),
    Code("W104", "little background to learn from",
         advice='add some images that show none of the classes (source.unlabeled = "negative")',
         why="Every training image has boxes, and they cover two thirds of it on average. The "
             "model sees little background and may find objects everywhere. Some images of the "
             "same places without the objects help; a first trial works without them."),
    Code("W105", "author or license is not known",
         advice="look it up before you publish the images or the model",
         why="Images of Open Images belong to their authors. Most licenses ask you to name the "
             "author. For these images, images/source/openimages/ATTRIBUTION.csv has no author or "
             "no license. It matters when you publish."),
    Code("W107", "same image twice with different boxes",
         advice="delete the image whose boxes are worse, with its .xml",
         why="The source has an image twice with different boxes. organize used those of the first "
             "label file. The others may be better, and only a person can tell."),
    Code("W108", "class names that differ only by case or spaces",
         advice="write the name in one way",
         why="Names that differ only by case, spaces, hyphens or underscores count as different "
             "classes, each with a part of the boxes. The model would have to tell apart what is "
             "the same. Listing the classes in source.labels turns this into E001.",
         repair="renames to the most frequent spelling"),
    Code("W109", "declared size contradicts source.exif",
         advice="look at the image with its boxes, then choose source.exif",
         why="source.exif says on which view the boxes were drawn, but the size in the label file "
             "is that of the other view. If the file is right, the boxes of this image are beside "
             "their objects."),
    Code("W110", "image is in another split than its folder says",
         advice="to follow the folders now, delete images/train, images/validation, images/test "
                "and annotations/split.csv",
         why="An image never changes its split: a test image that becomes a training image spoils "
             "every comparison. The folders of the source now say otherwise, and organize did not "
             "follow them."),
    Code("W111", "file is not a known label file",
         advice="nothing to do, if it is not a label file",
         why="A file beside the images has the extension of a label file and is in no format that "
             "is read. If it holds labels, they are missing."),
    Code("W112", "same image twice in one split",
         advice="delete one of them in images/, with its .xml",
         why="The same image is twice in one split. It counts double in training and in the "
             "scores."),
    Code("W113", "nearly the same image in two splits",
         advice='delete one of them, or set split.mode = "hash", which keeps such images together',
         why="Two images in different splits show nearly the same: neighboring frames of a video, "
             "or one image at two sizes. The model has learned one of them, so the score on the "
             "other is too good. A split made by this project keeps such images together."),
    Code("W114", "box covers the whole image",
         advice="look at it: draw the object, or leave it if it really fills the image",
         why="A box covers more than 98 % of its image. Sometimes the object really fills it. "
             "Often someone labeled the image instead of the object, and then the model learns "
             "nothing about where the object is."),
    Code("W115", "two boxes of one class on the same object",
         advice="delete one of them",
         why="Two boxes of one class overlap by more than 90 % (IoU): one object was labeled "
             "twice, often by two tools whose files were merged. Scoring then expects it to be "
             "found twice.",
         repair="drops the second when the corners agree to the pixel; others need a person"),
    Code("W116", "class numbers without names",
         advice="yolo: write classes.txt beside the label files, one name a line, line 1 = number "
                "0, or data.yaml with `names:`; coco: add it to `categories`; Open Images: put "
                "class-descriptions-boxable.csv beside the table",
         why="The label files hold class numbers and no file gives their names. The numbers became "
             "the names, so the detector reports `class_3` instead of `tomato`."),
    Code("W117", "several annotations of one task",
         advice="delete all but one of them in Label Studio, then export again",
         why="Several people labeled one task in Label Studio. One annotation was used; the "
             "message says which."),
    Code("W118", "something in a label file is not read",
         advice="label it anew with a box, if it matters",
         why="The label file holds something that is not a box and cannot be made into one, such "
             "as key points, a line, or a row without an image. It was not read."),
    Code("W119", "coordinates read as shares of the image",
         advice="nothing to do, if the boxes fit: invoke preview",
         why="All coordinates of the table are between 0 and 1, so they were read as shares of "
             "width and height. If they are pixels, all boxes are wrong: look once with `invoke "
             "preview`."),
    Code("W120", "empty label file of OIDv4_ToolKit",
         advice="label the image, or delete both, unless it shows none of the classes",
         why="OIDv4_ToolKit writes an empty label file when it cannot read an image. Used as it "
             "is, the image would teach that everything in it is background, although it was "
             "downloaded for an object."),
    Code("R201", "size was missing or 0",
         advice="nothing to do: taken from the image",
         why="The label file did not give the size of its image, or gave 0. Tools that divide by "
             "it get infinite boxes. Here the size is always that of the decoded image."),
    Code("R202", "size was wrong",
         advice="nothing to do, if the boxes fit: taken from the image",
         why="The label file gave another size than the image has. The real size was taken, the "
             "boxes stayed as they are. If the image was resized after labeling, they do not fit: "
             "E005 may tell, `invoke preview` shows it."),
    Code("R203", "extension did not match the content",
         advice="nothing to do: the copy in images/ has the right one",
         why="A file is named .jpg and holds a PNG, or the reverse. TensorFlow looks at the "
             "content, other programs at the name. The copy in images/ has the right name."),
    Code("R204", "image was re-encoded",
         advice="nothing to do: TensorFlow does not read the original",
         why="The image was in a format that TensorFlow does not decode. images/ has it as JPEG "
             "(quality 95) if it was lossy, else as PNG. The source did not change."),
    Code("R205", "image was turned upright",
         advice="nothing to do: the copy in images/ has no EXIF orientation",
         why='The image had an EXIF orientation and source.exif is "displayed". The copy in '
             "images/ has its pixels rotated, as viewers show it, and no orientation."),
    Code("R206", "decimal comma",
         advice="nothing to do: read as a point",
         why="Coordinates were written with a decimal comma, as in `12,5`. They were read as "
             "12.5."),
    Code("R207", "same image twice with the same boxes",
         advice="nothing to do: kept once",
         why="The source has the same image twice with the same boxes. images/ has it once."),
    Code("R208", "<filename> named another file",
         advice="nothing to do: paired by the name of the label file",
         why="The label file names another image in <filename> than the one beside it. Tools write "
             "old names there, or names without extension. The name of the label file itself "
             "decided."),
    Code("R209", "labeled twice with the same boxes",
         advice="nothing to do: kept once",
         why="Two label files say the same about one image. They were read as one."),
    Code("R210", "image is not in RGB",
         advice="nothing to do: gray, palette and transparent images are read as RGB",
         why="The image is gray, or has a palette, transparency or another color system. Its bytes "
             "are kept. Training and the exported model read it as RGB."),
    Code("R211", "depth in the label file is not 3",
         advice="nothing to do: training reads every image as RGB",
         why="The label file gives a depth other than 3, usually 1 for a gray image. It is not "
             "used: every image is read as RGB."),
    Code("R212", "box past the border by rounding",
         advice="nothing to do: its corner was put on the border",
         why="A corner was past the border by less than the precision of its file, as when shares "
             "of the image are written with six digits. It was put on the border."),
    Code("R213", "polygon or rotated box",
         advice="nothing to do: the upright box around it is taken",
         why="The object was outlined by a polygon or a rotated rectangle. The detector finds "
             "upright boxes, so the box around it was taken."),
    Code("R214", "image found under another name",
         advice="nothing to do, if it is the right one",
         why="The label file names an image that is only there under a similar name: with a "
             "prefix, or with a space for %20. The one file that fits was taken."),
    Code("R215", "copies with labels of one class each",
         advice="nothing to do: one image with the boxes of all",
         why="The source had the image once for each class, each copy with the boxes of that class "
             "only. Every copy would teach that the other objects are background. images/ has it "
             "once, with all boxes."),
    Code("R216", "nearly the same images",
         advice="nothing to do: they are kept in one split",
         why="Two images are one photograph: recompressed, resized, slightly cropped or "
             "brightened. Both are kept, in one split, because a score on an image whose copy was "
             "learned says nothing."),
    Code("R217", "image file was damaged at its end",
         advice="nothing to do, if the image looks right: encoded again",
         why="All pixels could be read, but the end mark is missing or a checksum is wrong, and "
             "TensorFlow would not decode the file. images/ has it encoded again."),
)
CATALOG = {code.code: code for code in _CODES}


def require_known_code(code: str, where: str, advice: str) -> None:
    """Raise a DetectorError that names the nearest code when `code` does not exist."""
    if code not in CATALOG:
        near = nearest(code.upper(), CATALOG, cutoff=0.0)
        raise DetectorError(f"'{code}' is no code, the nearest is '{near}': {where}: {advice}")


# The texts of `invoke check --explain`.

_WIDTH = 100
_INDENT = 11


def explain(code: str) -> str:
    """Return what a code means and what can be done about it; for "" a list of all codes."""
    code = code.strip().upper()
    if not code:
        return list_codes()
    require_known_code(code, "invoke check --explain", "type it, or no code for the list of all")
    entry = CATALOG[code]
    lines = [f"{code}  {entry.severity}  {entry.title}", "", textwrap.fill(entry.why, _WIDTH), ""]
    lines.append(_part("to do", entry.advice))
    if entry.severity != "repaired":
        lines.append(_part("--fix", entry.repair or "leaves it: only a person can decide"))
    if entry.severity == "error":
        lines.append(_part("accept", f'check.accept = ["{code}"]: {entry.accepted}'))
    return "\n".join(lines)


def _part(name: str, text: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=f"{name:<{_INDENT}}",
                         subsequent_indent=" " * _INDENT)


def list_codes() -> str:
    """Return all codes with their titles, one a line; a star marks those that `--fix` repairs."""
    lines = [f"{entry.code}{'*' if entry.repair else ' '}  {entry.severity:<8}  {entry.title}"
             for entry in _CODES]
    legend = "* `invoke check --fix` repairs what is safe. More of one: invoke check --explain E005"
    return "\n".join([*lines, "", legend])
