"""Explanations of the errors: what stops until it is corrected or accepted."""

from scripts.pictures.explanations.form import Explanation

ERRORS = {
    "E001": Explanation(
        "source.labels lists the classes to learn, and a box is of another. Often it is a slip or another case "
        "(`Aple`, `APPLE`): TensorFlow would leave such boxes out without a word, and the objects would be taught as "
        "background.",
        "renames another spelling of a label, and a slip of at most two letters after the first that can mean no "
        "other label and is not more frequent than the right name",
        "right if you list only some of the classes on purpose: boxes of the others are dropped and counted in "
        "annotations/csv.json",
    ),
    "E002": Explanation(
        "A class has no box in train, validation or test. It cannot be learned without boxes in train, and without "
        "boxes in test nobody knows how well it is found: its AP is undefined (the old tools warned `The following "
        "classes have no ground truth examples`). A misspelt name in one split looks the same.",
        "",
        "the class stays in the label map; its AP is null where it has no boxes",
    ),
    "E003": Explanation(
        "xmin is greater than xmax, or ymin than ymax. The loss of such a box is not a number or negative, which is "
        "how `LossTensor is inf or nan` begins. Some tools write corners in another order: see whether all boxes are "
        "so.",
        "swaps the corners when both lie inside the picture",
        "the box is dropped and counted in annotations/csv.json; its object is then taught as background",
    ),
    "E004": Explanation(
        "A side of the box is shorter than check.min_box_px. A box without area has no target that could be learned, "
        "and makes some losses infinite; it is usually a click instead of a drag.",
        "drops it when a side is shorter than 1 pixel; larger ones need a person",
        "a box without area is dropped and counted; one with area is used as it is",
    ),
    "E005": Explanation(
        "A box reaches beyond the border. A little is a hand that slipped; much says that the boxes belong to another"
        " size or to the turned view of the picture, and then all its boxes teach the wrong place. TensorFlow's old "
        "tools stopped hours later with `maximum box coordinate value is larger than 1.1`, or with a loss of nan.",
        "clips it to the picture when it leaves by at most 10 % of the side",
        "sensible for small overhangs: the box is clipped to the picture, or dropped when nothing of it is inside, "
        "and counted in annotations/csv.json",
    ),
    "E006": Explanation(
        "The size written in the label file is not that of the picture beside it in images/. The picture may have "
        "been resized or turned after it was labelled; then the boxes do not fit. (organize corrects this in what it "
        "copies and reports R202.)",
        "writes the real size, unless the sizes tell of a resized or turned picture or a box needs the written size",
        "sensible when the boxes fit: only the real size is used",
    ),
    "E007": Explanation(
        "The camera stored the picture lying and noted in its EXIF data how to turn it. Viewers and some labelling "
        "tools turn it, TensorFlow does not. If the boxes were drawn on the turned view they are beside their "
        "objects, up to outside the picture. Only you know the tool: look with `invoke preview`.",
        'with source.exif = "displayed" turns the pixels (JPEG, quality 95), with "stored" only removes the turn from'
        ' the EXIF data; with "error" it leaves the picture',
        "the pixels are used as they are stored, and the boxes with them",
    ),
    "E008": Explanation(
        "A corner of a box is missing, empty, `nan` or no number. One such box makes the loss, and after it every "
        "weight of the model, not a number.",
        "drops the box",
        "the box is dropped and counted in annotations/csv.json; its object is then taught as background",
    ),
    "E009": Explanation(
        "A label file says something about a picture that is not there. The picture may be missing, or bear another "
        "name: somebody's work is lost if nobody looks.",
        "",
        "the label file is not used",
    ),
    "E010": Explanation(
        "The file cannot be decoded: cut off by a broken download, empty, or no picture at all (HEIC photographs of "
        "an iPhone are not read either). Training would stop on it, perhaps after hours, with `Unable to decode bytes"
        " as JPEG, PNG, GIF, or BMP`.",
        "",
        "the picture is left out",
    ),
    "E011": Explanation(
        "The same picture is in train and in validation or test. The model has seen the answer, so its score there is"
        " a memory and says nothing about new pictures.",
        "",
        "the scores are too good by an unknown amount",
    ),
    "E012": Explanation(
        "A picture has no label file. It may have been forgotten, or show none of the classes. Used as it is it would"
        " teach that everything in it is background.",
        "",
        "the picture is left out",
    ),
    "E014": Explanation(
        "The exported models report at most 100 objects in a picture, and scoring counts no more. Training uses all "
        "boxes, but objects beyond 100 are missed whatever the model learns. Boxes marked as group_of or is_crowd do "
        "not count.",
        "",
        "sensible for a few pictures; nothing is dropped, the recall of these pictures is held down",
    ),
    "E019": Explanation(
        "The label file is broken or is not in the form that its name says. What it says about its picture is "
        "unknown, so the picture cannot be used either.",
        "",
        "the picture is left out",
    ),
    "E020": Explanation(
        "One name fits several files: two label files for a picture, or two pictures for a label file. Which belong "
        "together would be a guess, and a wrong guess puts boxes on another picture.",
        "",
        "what organize could not pair is left out; two pictures of one name in images/ share their label file",
    ),
    "E021": Explanation(
        "A box has corners and no class, usually because a labelling tool was closed without choosing one.",
        "",
        "the box is dropped and counted in annotations/csv.json; its object is then taught as background",
    ),
    "E022": Explanation(
        "A picture that was put into images/ by hand is WebP, TIFF or another format that training does not decode, "
        "whatever its name says. What comes from the source is written as JPEG or PNG by organize.",
        "writes it as JPEG (quality 95) if it was lossy, else as PNG, under the same name; a turned one only when "
        "source.exif says which view counts",
        "records stops on it when TensorFlow cannot decode it",
    ),
}
