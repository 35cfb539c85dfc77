"""What a file may have. A sheet of a million rows fits with room to spare; one made to exhaust a server does not."""

MAX_COLUMNS = 256
# What a spreadsheet's own cells hold.
MAX_CELL_LENGTH = 32_767
MAX_LINE_LENGTH = 1024 * 1024
# A sheet of a million rows of five columns unpacks to about 250 MB.
MAX_XLSX_BYTES = 768 * 1024 * 1024
MAX_SHEET_ROWS = 1_048_576
MAX_SHARED_BYTES = 256 * 1024 * 1024
MAX_SHARED_STRINGS = 8_000_000
MAX_ZIP_DIRECTORY = 256 * 1024
MAX_STYLES = 65_536
