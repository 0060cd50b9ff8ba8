"""CSV files of any make are read, and what is wrong with a row stays with that row."""

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contacts.table import LONGEST_LINE, MOST_TORN, Refused, plain, records, shape

HEADER = "email,first_name\n"


def pieces(content, size=7):
    return [content[i : i + size] for i in range(0, len(content), size)]


def rows(content, size=7):
    """What a file gives: the cells of each row, or the code of its problem."""
    content = content.encode() if isinstance(content, str) else content
    found = records(pieces(content, size), shape(pieces(content, size)))
    return [r.problem.code if r.problem else r.cells for r in found if not r.is_blank]


ANN, BOB = ["ann@x.example", "Ännchen"], ["bob@x.example", "Bob"]
PEOPLE = f"{HEADER}{ANN[0]},{ANN[1]}\n{BOB[0]},{BOB[1]}\n"


@pytest.mark.parametrize(
    ("content", "encoding", "separator"),
    [
        (PEOPLE.encode(), "utf-8", ","),
        (codecs.BOM_UTF8 + PEOPLE.encode(), "utf-8-sig", ","),
        (PEOPLE.encode("utf-16"), "utf-16", ","),
        (codecs.BOM_UTF16_BE + PEOPLE.encode("utf-16-be"), "utf-16", ","),
        (PEOPLE.replace(",", ";").encode(), "utf-8", ";"),
        (PEOPLE.replace(",", "\t").encode(), "utf-8", "\t"),
        (PEOPLE.encode("cp1252"), "cp1252", ","),
        (PEOPLE.encode("latin-1"), "cp1252", ","),
        (PEOPLE.replace("\n", "\r\n").encode(), "utf-8", ","),
        (PEOPLE.replace("\n", "\r").encode(), "utf-8", ","),
        (("\n \r\n" + PEOPLE).encode(), "utf-8", ","),
        (PEOPLE.rstrip("\n").encode(), "utf-8", ","),
        (PEOPLE.replace("\n", "\r\n", 1).replace("\nb", "\rb").encode(), "utf-8", ","),
        (PEOPLE.replace("\n", ",,\n", 1).encode(), "utf-8", ","),
    ],
)
@pytest.mark.parametrize("size", [1, 3, 4096])
def test_files_of_many_makes_are_read(content, encoding, separator, size):
    found = shape(pieces(content, size))

    assert (found.encoding, found.separator, found.header) == (
        encoding,
        separator,
        ("email", "first_name"),
    )
    assert found.guessed == (encoding == "cp1252")
    assert rows(content, size) == [ANN, BOB]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "empty_file"),
        (b"\n \r\n", "empty_file"),
        (codecs.BOM_UTF8, "empty_file"),
        (PEOPLE.encode("utf-32"), "encoding"),
        (PEOPLE.encode("utf-16-le"), "encoding"),
        (PEOPLE.encode("utf-16-be"), "encoding"),
        (PEOPLE.encode() + b"x\x81\x8d\xff,y\n", "encoding"),
        (PEOPLE.encode("utf-16") + b"x", "encoding"),
        (b"email,Email \n1,2\n", "duplicate_headers"),
        (b"e-mail,E Mail\n1,2\n", "duplicate_headers"),
        (b"email,,name\n1,2,3\n", "empty_header"),
        (b"email,na\0me\n1,2\n", "bad_header"),
        (b"email,na\x1bme\n1,2\n", "bad_header"),
        ("email,\u202ename\n1,2\n".encode(), "bad_header"),
        (b"email," + b"x" * 121 + b"\n", "bad_header"),
        (b'email,"na\nme"\n1,2\n', "bad_header"),
        (",".join(f"c{n}" for n in range(201)).encode(), "too_many_columns"),
        (b"x" * (LONGEST_LINE + 1), "bad_header"),
    ],
)
def test_what_is_no_table_is_refused(content, code):
    with pytest.raises(Refused) as refused:
        shape(pieces(content))

    assert refused.value.code == code


def test_rows_without_any_text_before_the_header_are_blank():
    assert shape([b",,,\nemail,name\n"]).header == ("email", "name")


def test_ragged_rows_are_set_aside_unless_only_empty_cells_are_too_many():
    assert rows(HEADER + "a,A\nb\nc,C,\nd,D,x\ne,E,,,\n\n,\nf,F\n") == [
        ["a", "A"],
        "ragged_row",
        ["c", "C"],
        "ragged_row",
        ["e", "E"],
        ["f", "F"],
    ]


def test_rows_are_numbered_as_in_a_spreadsheet():
    content = (HEADER + "a,A\n\nb\n").encode()

    found = list(records([content], shape([content])))

    assert [(r.number, r.is_blank) for r in found] == [(2, False), (3, True), (4, False)]


def test_quoted_cells_hold_separators_quotes_and_line_breaks():
    assert rows(HEADER + 'a,"A, ""B""\r\nC"\nb,B\n') == [["a", 'A, "B"\r\nC'], ["b", "B"]]


@pytest.mark.parametrize(
    "bad",
    ['a,"A', 'a,"A"B', '"a",A"B"C,"', 'a,"' + "x" * 200_000],
)
@pytest.mark.parametrize("size", [100, 65_536])
def test_a_wrong_quotation_mark_costs_its_own_line_and_no_other(bad, size):
    assert rows(f"{HEADER}{bad}\nb,B\nc,C\n", size) == ["unreadable_row", ["b", "B"], ["c", "C"]]
    assert rows(f"{HEADER}b,B\n{bad}", size) == [["b", "B"], "unreadable_row"]


def test_a_cell_of_a_megabyte_is_set_aside_without_being_held():
    content = f"{HEADER}a,{'x' * 1_000_000}\nb,B\n".encode()

    found = list(records(pieces(content, 65_536), shape(pieces(content, 65_536))))

    assert [r.problem and r.problem.code for r in found] == ["line_too_long", None]
    assert len(found[0].cells[0]) == 1000
    assert rows(f'{HEADER}a,"{"x" * 1_000_000}\nb,B\n', 65_536) == ["line_too_long", ["b", "B"]]
    assert rows(f"{HEADER}a,{'x' * 1_000_000}", 65_536) == ["line_too_long"]


def test_a_file_of_torn_quotation_marks_is_refused():
    content = (HEADER + 'a,"A"x"\n' + 'a,"A\n' * (2 * MOST_TORN + 10)).encode()

    with pytest.raises(Refused) as refused:
        list(records(pieces(content, 4096), shape(pieces(content, 4096))))

    assert refused.value.code == "quotation_marks"


def test_nul_in_a_row_is_that_rows_matter():
    assert rows(HEADER + "a,A\0\nb,B\n") == [["a", "A\0"], ["b", "B"]]


@given(
    st.text('a,;"\r\n\t\0é', max_size=60).map(lambda t: HEADER + t),
    st.integers(1, 9),
)
def test_where_the_file_is_cut_into_pieces_makes_no_difference(content, size):
    encoded = content.encode()

    assert rows(encoded, size) == rows(encoded, 10_000)


@given(st.lists(st.lists(st.text('ab,;"\n é', max_size=6), min_size=2, max_size=2), max_size=5))
def test_what_python_wrote_is_read_back(written):
    import csv
    import io

    text = io.StringIO(newline="")
    csv.writer(text).writerows([["email", "first_name"], *written])

    found = rows(text.getvalue(), 11)

    assert found == [cells for cells in written if "".join(cells).strip()]


@pytest.mark.parametrize("name", ["E-Mail", "e mail", " E_MAIL ", "e.mail"])
def test_names_of_columns_are_equal_however_they_are_written(name):
    assert plain(name) == "e_mail"
