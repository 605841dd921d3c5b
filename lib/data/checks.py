"""Checks that several readers of data sets share."""

from lib.data.cases import Check

FOLDER_PASSED_OVER = Check("folder passed over")
GROUP_NOT_USED = Check("group not used")
MISSING_GROUP = Check("missing group", "add its folder, or leave the group out of `groups`")
MISSING_IMAGE = Check("missing image", "add the image, or remove what belongs to it")
MISSING_MASK = Check("missing mask", "add the mask, or name the case in `exclude`")
MISSING_PIXEL_SIZE = Check("missing pixel size", "add a row to the table of pixel sizes; millimetres need it")
NO_PIXEL_SIZE = Check("no pixel size")
ROW_WITHOUT_FILE = Check("row without a file", "add the image or remove the row")
SUBJECTS_UNKNOWN = Check(
    "subjects unknown", "give subjects where they are known; images of one person in two folds leak"
)
TWO_ROWS_FOR_ONE_IMAGE = Check("two rows for one image", "keep the right row")
UNKNOWN_FILE = Check("unknown file", "remove it if it does not belong to the data set")
UNREADABLE_NUMBER = Check("unreadable number", "write a number with a decimal point in the range that is named")
