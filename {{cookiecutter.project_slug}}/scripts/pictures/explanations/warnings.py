"""Explanations of the warnings: what a person should know and may leave."""

from scripts.pictures.explanations.form import Explanation

WARNINGS = {
    "W101": Explanation(
        "A class has a tenth of the training boxes of the largest, or less. The model sees it too seldom to learn it "
        "as well; the mean AP hides that, the AP per class in `invoke evaluate` shows it.",
    ),
    "W102": Explanation(
        "The model sees every picture stretched to a small square. One box in twenty or more is under 8 x 8 pixels "
        "there, the size of one cell of the finest map: such things are hardly ever found. A larger input or smaller "
        "sections of the pictures help.",
    ),
    "W103": Explanation(
        "A quarter of the boxes or more are marked as group_of, is_crowd or difficult. Training leaves out groups and"
        " crowds, and scoring counts none of the three, neither as found nor as missed: much labelling has no effect.",
    ),
    "W104": Explanation(
        "Every training picture has boxes, and they cover two thirds of it on average. The model sees little of "
        "what it is to ignore and may find objects everywhere. Some pictures of the same places without the objects "
        "help; for a first trial you can go without.",
    ),
    "W105": Explanation(
        "Pictures of Open Images belong to their authors, under licences that mostly ask for the name. For these, "
        "images/source/openimages/ATTRIBUTION.csv has no author or no licence. It matters when you publish.",
    ),
    "W107": Explanation(
        "A picture is there twice with different boxes. organize has used those of the first label file only; the "
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
        "other view. If the file is right, the boxes of this picture are beside their objects.",
    ),
    "W110": Explanation(
        "A picture never changes its split once it has one: a test picture that becomes a training picture spoils "
        "every comparison. The folders of the source now say otherwise, and were not followed.",
    ),
    "W111": Explanation(
        "A file beside the pictures looks like a label file by its ending and is not in any form that is read. If it "
        "holds labels, they are missing.",
    ),
    "W112": Explanation(
        "The same picture is twice in one split. It counts double in training, and in test a mistake on it does too.",
    ),
    "W113": Explanation(
        "Two pictures in different splits show nearly the same: neighbouring frames of a video, or one picture at two"
        " sizes. The score of the second is partly a memory. A split that we deal ourselves keeps such pictures "
        "together.",
    ),
    "W114": Explanation(
        "A box covers more than 98 % of its picture. Sometimes the object really fills it; often the picture was "
        "labelled as a whole, and teaches nothing about where the object is.",
    ),
    "W115": Explanation(
        "Two boxes of one class overlap by more than 90 % (IoU): one thing that was labelled twice, often by two "
        "tools that were merged. Scoring then expects it to be found twice.",
        "drops the second when the corners agree to the pixel; others need a person",
    ),
    "W116": Explanation(
        "The label files hold class numbers and nothing says what they are called. The numbers became the names, so "
        "the detector will report `3` instead of `tomato`.",
    ),
    "W117": Explanation(
        "Several people have labelled one task in Label Studio. One annotation was used; the message says which.",
    ),
    "W118": Explanation(
        "The label file holds something that is no box and cannot be made into one, such as key points or a line, or "
        "a row without a picture. It was left out.",
    ),
    "W119": Explanation(
        "All coordinates of the table are between 0 and 1, so they were read as shares of width and height. If they "
        "were pixels, all boxes are wrong: look once with `invoke preview`.",
    ),
    "W120": Explanation(
        "OIDv4_ToolKit writes an empty label file when it cannot read a picture. Used as it is, the picture would "
        "teach that everything in it is background, although it was downloaded for an object.",
    ),
}
