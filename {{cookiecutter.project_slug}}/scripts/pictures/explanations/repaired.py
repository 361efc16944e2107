"""Explanations of what organize has repaired on the way to `images/`, without loss."""

from scripts.pictures.explanations.form import Explanation

REPAIRED = {
    "R201": Explanation(
        "The label file did not say the size of its picture, or said 0. Tools that divide by it end in infinite "
        "boxes; here the size is always that of the decoded picture.",
    ),
    "R202": Explanation(
        "The label file said another size than the picture has. The real one was taken, the boxes stayed as they are."
        " If the picture was resized after labelling they do not fit: E005 may tell, `invoke preview` shows it.",
    ),
    "R203": Explanation(
        "A file is named .jpg and holds a PNG, or the reverse. TensorFlow looks at the content, other programs at the"
        " name; the copy in images/ has the name that fits.",
    ),
    "R204": Explanation(
        "The picture was in a format that TensorFlow does not decode. images/ has it as JPEG (quality 95) if it was "
        "lossy, else as PNG; the source is as it was.",
    ),
    "R205": Explanation(
        'The camera had marked the picture as turned and source.exif is "displayed". The copy in images/ has its '
        "pixels turned, as viewers show it, and no mark.",
    ),
    "R206": Explanation(
        "Coordinates were written with a decimal comma, as in `12,5`. They were read as 12.5.",
    ),
    "R207": Explanation(
        "The same picture is in the source twice with the same boxes, and once in images/.",
    ),
    "R208": Explanation(
        "The label file names another picture in <filename> than the one beside it. Tools write old names there, or "
        "names without ending; the name of the label file itself decided.",
    ),
    "R209": Explanation(
        "Two label files say the same about one picture. They were read as one.",
    ),
    "R210": Explanation(
        "The picture is grey, has a palette, transparency or another colour system. Its bytes are kept; training and "
        "the phone see it as RGB.",
    ),
    "R211": Explanation(
        "The label file says a depth other than 3, usually 1 for a grey picture. It is not used: every picture is "
        "read as RGB.",
    ),
    "R212": Explanation(
        "A corner was past the border by less than the precision of its file, as when shares of the picture are "
        "written with six digits. It was put on the border.",
    ),
    "R213": Explanation(
        "The object was outlined by a polygon or a turned rectangle. The detector finds upright boxes, so the box "
        "around it was taken.",
    ),
    "R214": Explanation(
        "The label file names a picture that is there only under a changed name: with a prefix, or with %20 for a "
        "space. The one file that fits was taken.",
    ),
    "R215": Explanation(
        "A picture was there once for each class, each copy with the boxes of that class only. Every copy would teach"
        " that the other objects are background; images/ has it once, with all boxes.",
    ),
    "R216": Explanation(
        "One photograph twice, recompressed, resized, slightly cropped or brighter. Both are kept and stand in one "
        "split: a picture that is scored while its double was learned would score a memory.",
    ),
    "R217": Explanation(
        "All pixels could be read, but the file breaks off before its end mark or a checksum is wrong, and TensorFlow "
        "would refuse it. images/ has it written anew.",
    ),
}
