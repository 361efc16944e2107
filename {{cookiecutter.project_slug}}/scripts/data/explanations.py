"""What an explanation of a code consists of."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Explanation:
    """Plain sentences about a code: what it is and why it matters, what `--fix` does, what follows
    when it is accepted.

    `fixing` "": `--fix` leaves it. `accepting` is for errors; the others never stop.
    """

    why: str
    fixing: str = ""
    accepting: str = ""


# Explanations of the errors: what stops until it is corrected or accepted.

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
        "swaps the corners when both lie inside the image",
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
        " size or to the turned view of the image, and then all its boxes teach the wrong place. TensorFlow's old "
        "tools stopped hours later with `maximum box coordinate value is larger than 1.1`, or with a loss of nan.",
        "clips it to the image when it leaves by at most 10 % of the side",
        "sensible for small overhangs: the box is clipped to the image, or dropped when nothing of it is inside, "
        "and counted in annotations/csv.json",
    ),
    "E006": Explanation(
        "The size written in the label file is not that of the image beside it in images/. The image may have "
        "been resized or turned after it was labeled; then the boxes do not fit. (organize corrects this in what it "
        "copies and reports R202.)",
        "writes the real size, unless the sizes tell of a resized or turned image or a box needs the written size",
        "sensible when the boxes fit: only the real size is used",
    ),
    "E007": Explanation(
        "The camera stored the image lying and noted in its EXIF data how to turn it. Viewers and some labeling "
        "tools turn it, TensorFlow does not. If the boxes were drawn on the turned view they are beside their "
        "objects, up to outside the image. Only you know the tool: look with `invoke preview`.",
        'with source.exif = "displayed" turns the pixels (JPEG, quality 95), with "stored" only removes the turn from'
        ' the EXIF data; with "error" it leaves the image',
        "the pixels are used as they are stored, and the boxes with them",
    ),
    "E008": Explanation(
        "A corner of a box is missing, empty, `nan` or no number. One such box makes the loss, and after it every "
        "weight of the model, not a number.",
        "drops the box",
        "the box is dropped and counted in annotations/csv.json; its object is then taught as background",
    ),
    "E009": Explanation(
        "A label file says something about an image that is not there. The image may be missing, or bear another "
        "name: somebody's work is lost if nobody looks.",
        "",
        "the label file is not used",
    ),
    "E010": Explanation(
        "The file cannot be decoded: cut off by a broken download, empty, or no image at all (HEIC photographs of "
        "an iPhone are not read either). Training would stop on it, perhaps after hours, with `Unable to decode bytes"
        " as JPEG, PNG, GIF, or BMP`.",
        "",
        "the image is left out",
    ),
    "E011": Explanation(
        "The same image is in train and in validation or test. The model has seen the answer, so its score there is"
        " a memory and says nothing about new images.",
        "",
        "the scores are too good by an unknown amount",
    ),
    "E012": Explanation(
        "An image has no label file. It may have been forgotten, or show none of the classes. Used as it is it would"
        " teach that everything in it is background.",
        "",
        "the image is left out",
    ),
    "E014": Explanation(
        "The exported models report at most 100 objects in an image, and scoring counts no more. Training uses all "
        "boxes, but objects beyond 100 are missed whatever the model learns. Boxes marked as group_of or is_crowd do "
        "not count.",
        "",
        "sensible for a few images; nothing is dropped, the recall of these images is held down",
    ),
    "E019": Explanation(
        "The label file is broken or is not in the form that its name says. What it says about its image is "
        "unknown, so the image cannot be used either.",
        "",
        "the image is left out",
    ),
    "E020": Explanation(
        "One name fits several files: two label files for an image, or two images for a label file. Which belong "
        "together would be a guess, and a wrong guess puts boxes on another image.",
        "",
        "what organize could not pair is left out; two images of one name in images/ share their label file",
    ),
    "E021": Explanation(
        "A box has corners and no class, usually because a labeling tool was closed without choosing one.",
        "",
        "the box is dropped and counted in annotations/csv.json; its object is then taught as background",
    ),
    "E022": Explanation(
        "An image that was put into images/ by hand is WebP, TIFF or another format that training does not decode, "
        "whatever its name says. What comes from the source is written as JPEG or PNG by organize.",
        "writes it as JPEG (quality 95) if it was lossy, else as PNG, under the same name; a turned one only when "
        "source.exif says which view counts",
        "records stops on it when TensorFlow cannot decode it",
    ),
}


# Explanations of what organize has repaired on the way to `images/`, without loss.

REPAIRED = {
    "R201": Explanation(
        "The label file did not say the size of its image, or said 0. Tools that divide by it end in infinite "
        "boxes; here the size is always that of the decoded image.",
    ),
    "R202": Explanation(
        "The label file said another size than the image has. The real one was taken, the boxes stayed as they are."
        " If the image was resized after labeling they do not fit: E005 may tell, `invoke preview` shows it.",
    ),
    "R203": Explanation(
        "A file is named .jpg and holds a PNG, or the reverse. TensorFlow looks at the content, other programs at the"
        " name; the copy in images/ has the name that fits.",
    ),
    "R204": Explanation(
        "The image was in a format that TensorFlow does not decode. images/ has it as JPEG (quality 95) if it was "
        "lossy, else as PNG; the source is as it was.",
    ),
    "R205": Explanation(
        'The camera had marked the image as turned and source.exif is "displayed". The copy in images/ has its '
        "pixels turned, as viewers show it, and no mark.",
    ),
    "R206": Explanation(
        "Coordinates were written with a decimal comma, as in `12,5`. They were read as 12.5.",
    ),
    "R207": Explanation(
        "The same image is in the source twice with the same boxes, and once in images/.",
    ),
    "R208": Explanation(
        "The label file names another image in <filename> than the one beside it. Tools write old names there, or "
        "names without ending; the name of the label file itself decided.",
    ),
    "R209": Explanation(
        "Two label files say the same about one image. They were read as one.",
    ),
    "R210": Explanation(
        "The image is gray, has a palette, transparency or another color system. Its bytes are kept; training and "
        "the phone see it as RGB.",
    ),
    "R211": Explanation(
        "The label file says a depth other than 3, usually 1 for a gray image. It is not used: every image is "
        "read as RGB.",
    ),
    "R212": Explanation(
        "A corner was past the border by less than the precision of its file, as when shares of the image are "
        "written with six digits. It was put on the border.",
    ),
    "R213": Explanation(
        "The object was outlined by a polygon or a turned rectangle. The detector finds upright boxes, so the box "
        "around it was taken.",
    ),
    "R214": Explanation(
        "The label file names an image that is there only under a changed name: with a prefix, or with %20 for a "
        "space. The one file that fits was taken.",
    ),
    "R215": Explanation(
        "An image was there once for each class, each copy with the boxes of that class only. Every copy would teach"
        " that the other objects are background; images/ has it once, with all boxes.",
    ),
    "R216": Explanation(
        "One photograph twice, recompressed, resized, slightly cropped or brighter. Both are kept and stand in one "
        "split: an image that is scored while its double was learned would score a memory.",
    ),
    "R217": Explanation(
        "All pixels could be read, but the file breaks off before its end mark or a checksum is wrong, and TensorFlow "
        "would refuse it. images/ has it written anew.",
    ),
}


# Explanations of the warnings: what a person should know and may leave.

WARNINGS = {
    "W101": Explanation(
        "A class has a tenth of the training boxes of the largest, or less. The model sees it too seldom to learn it "
        "as well; the mean AP hides that, the AP per class in `invoke evaluate` shows it.",
    ),
    "W102": Explanation(
        "The model sees every image stretched to a small square. One box in twenty or more is under 8 x 8 pixels "
        "there, the size of one cell of the finest map: such things are hardly ever found. A larger input or smaller "
        "sections of the images help.",
    ),
    "W103": Explanation(
        "A quarter of the boxes or more are marked as group_of, is_crowd or difficult. Training leaves out groups and"
        " crowds, and scoring counts none of the three, neither as found nor as missed: much labeling has no effect.",
    ),
    "W104": Explanation(
        "Every training image has boxes, and they cover two thirds of it on average. The model sees little of "
        "what it is to ignore and may find objects everywhere. Some images of the same places without the objects "
        "help; for a first trial you can go without.",
    ),
    "W105": Explanation(
        "Images of Open Images belong to their authors, under licenses that mostly ask for the name. For these, "
        "images/source/openimages/ATTRIBUTION.csv has no author or no license. It matters when you publish.",
    ),
    "W107": Explanation(
        "An image is there twice with different boxes. organize has used those of the first label file only; the "
        "other may be the better one, and only a person can tell.",
    ),
    "W108": Explanation(
        "Names that differ only by case, spaces, hyphens or underscores are counted as different classes, each with a"
        " part of the boxes. The model would be asked to tell apart what is the same. Naming the classes in "
        "source.labels turns this into E001.",
        "renames to the most frequent spelling",
    ),
    "W109": Explanation(
        "source.exif says on which view the boxes were drawn, and the size written in the label file is that of the "
        "other view. If the file is right, the boxes of this image are beside their objects.",
    ),
    "W110": Explanation(
        "An image never changes its split once it has one: a test image that becomes a training image spoils "
        "every comparison. The folders of the source now say otherwise, and were not followed.",
    ),
    "W111": Explanation(
        "A file beside the images looks like a label file by its ending and is not in any form that is read. If it "
        "holds labels, they are missing.",
    ),
    "W112": Explanation(
        "The same image is twice in one split. It counts double in training, and in test a mistake on it does too.",
    ),
    "W113": Explanation(
        "Two images in different splits show nearly the same: neighboring frames of a video, or one image at two"
        " sizes. The score of the second is partly a memory. A split that we deal ourselves keeps such images "
        "together.",
    ),
    "W114": Explanation(
        "A box covers more than 98 % of its image. Sometimes the object really fills it; often the image was "
        "labeled as a whole, and teaches nothing about where the object is.",
    ),
    "W115": Explanation(
        "Two boxes of one class overlap by more than 90 % (IoU): one thing that was labeled twice, often by two "
        "tools that were merged. Scoring then expects it to be found twice.",
        "drops the second when the corners agree to the pixel; others need a person",
    ),
    "W116": Explanation(
        "The label files hold class numbers and nothing says what they are called. The numbers became the names, so "
        "the detector will report `3` instead of `tomato`.",
    ),
    "W117": Explanation(
        "Several people have labeled one task in Label Studio. One annotation was used; the message says which.",
    ),
    "W118": Explanation(
        "The label file holds something that is no box and cannot be made into one, such as key points or a line, or "
        "a row without an image. It was left out.",
    ),
    "W119": Explanation(
        "All coordinates of the table are between 0 and 1, so they were read as shares of width and height. If they "
        "were pixels, all boxes are wrong: look once with `invoke preview`.",
    ),
    "W120": Explanation(
        "OIDv4_ToolKit writes an empty label file when it cannot read an image. Used as it is, the image would "
        "teach that everything in it is background, although it was downloaded for an object.",
    ),
}


# `invoke check --explain E005`: what each code of the catalog means, in plain sentences.

EXPLANATIONS = {**ERRORS, **WARNINGS, **REPAIRED}
