"""The generator of the MovieLens data sets, from raw files as they are published."""

import inspect
import logging
import zipfile
import zlib

import h5py
import numpy as np
import pytest
from scipy.sparse import csr_matrix

from implicit_core.datasets.movielens import generate_dataset, get_movielens

# (user, movie, stars): movie 1 has no title, movie 2 no rating, user 1 and 3 are not there, movie 6 is the last one.
RATINGS = [(4, 3, 3), (2, 5, 5), (4, 5, 1), (2, 1, 2)]
TITLES = {
    3: "Misérables, Les (1995)",
    5: "Star Wars: V (1980)",
    2: "Seven (a.k.a. Se7en) (1995)",
    6: "東 (2001)",
}
VARIANTS = ["20m", "10m", "1m", "100k"]
FOLDERS = {"20m": "ml-20m", "10m": "ml-10M100K", "1m": "ml-1m", "100k": "ml-100k"}
NAMES = {
    "20m": ("ratings.csv", "movies.csv"),
    "10m": ("ratings.dat", "movies.dat"),
    "1m": ("ratings.dat", "movies.dat"),
    "100k": ("u.data", "u.item"),
}


def titles_of(variant):
    """Return the titles of the sample as far as the encoding of a variant has their letters."""
    return TITLES if variant in ("20m", "10m") else TITLES | {6: "Niña (2001)"}


def rating_line(variant, rating, time=1112486027):
    return {"20m": ",", "10m": "::", "1m": "::", "100k": "\t"}[variant].join(map(str, (*rating, time)))


def title_line(variant, movie, title):
    if variant == "20m":
        quoted = '"{}"'.format(title.replace('"', '""')) if {",", '"'} & set(title) else title
        return f"{movie},{quoted},Drama|War"
    if variant == "100k":
        return f"{movie}|{title}|01-Jan-1995||http://us.imdb.com/M/title-exact?{movie}|" + "|".join("0" * 19)
    return f"{movie}::{title}::Drama|War"


def raw_files(variant, ratings=RATINGS, titles=None):
    """Return the two raw files; ratings and titles may contain whole lines as they are."""
    titles = (titles_of(variant) if titles is None else titles).items()
    rating_lines = [rating if isinstance(rating, str) else rating_line(variant, rating) for rating in ratings]
    title_lines = [title if movie is None else title_line(variant, movie, title) for movie, title in titles]
    if variant == "20m":
        rating_lines.insert(0, "userId,movieId,rating,timestamp")
        title_lines.insert(0, "movieId,title,genres")
    encoding = "utf-8" if variant in ("20m", "10m") else "latin-1"
    contents = ("".join(f"{line}\n" for line in lines).encode(encoding) for lines in (rating_lines, title_lines))
    return dict(zip(NAMES[variant], contents, strict=True))


def write_folder(path, files):
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def write_zip(path, files, folder):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{folder}/", "")
        archive.writestr(f"{folder}/README.txt", "read me")
        for name, content in files.items():
            archive.writestr(f"__MACOSX/{folder}/._{name}", "what some systems add")
            archive.writestr(f"{folder}/{name}", content)
    return path


@pytest.fixture
def generate(tmp_path, monkeypatch):
    """Return a function that makes the cached file of a variant from a folder of raw files, and loads it."""
    monkeypatch.setenv("IMPLICIT_DATASETS", str(tmp_path / "cache"))

    def run(variant, **changed):
        folder = write_folder(tmp_path / "raw", raw_files(variant, **changed))
        generate_dataset(folder, variant, tmp_path / "cache")
        return get_movielens(variant)

    return run


def assert_is_sample(variant, titles, ratings):
    assert titles.dtype == object
    expected = titles_of(variant)
    assert titles.tolist() == ["", "", *(expected.get(movie, "") for movie in range(2, 7))]
    assert isinstance(ratings, csr_matrix)
    assert ratings.dtype == np.float32
    assert ratings.shape == (7, 5)
    assert ratings.nnz == len(RATINGS)
    for user, movie, stars in RATINGS:
        assert ratings[movie, user] == stars


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_rows_are_movies_and_columns_users_by_their_raw_ids(tmp_path, monkeypatch, variant, kind):
    monkeypatch.setenv("IMPLICIT_DATASETS", str(tmp_path / "cache"))
    files = raw_files(variant)
    source = (
        write_zip(tmp_path / "raw.zip", files, FOLDERS[variant])
        if kind == "zip"
        else write_folder(tmp_path / FOLDERS[variant], files)
    )
    before = set(tmp_path.rglob("*"))
    generate_dataset(source, variant, tmp_path / "cache")
    assert_is_sample(variant, *get_movielens(variant))
    cached = tmp_path / "cache" / f"movielens_{variant}.hdf5"
    assert set(tmp_path.rglob("*")) - before == {cached.parent, cached}


def test_variant_and_folder_have_default_values(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("IMPLICIT_DATASETS", str(tmp_path))
    generate_dataset(str(write_folder(tmp_path / "raw", raw_files("20m"))))
    assert_is_sample("20m", *get_movielens())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_file_of_the_older_library_without_shape_reads_alike(generate, tmp_path, variant):
    generate(variant)
    with h5py.File(tmp_path / "cache" / f"movielens_{variant}.hdf5", "r+") as file:
        del file["movie_user_ratings"].attrs["shape"]
    assert_is_sample(variant, *get_movielens(variant))


@pytest.mark.parametrize("function", [get_movielens, lambda variant: generate_dataset("nowhere", variant)])
@pytest.mark.parametrize("variant", ["20M", "25m", "", "../20m"])
def test_an_unknown_variant_is_refused(function, variant):
    with pytest.raises(ValueError, match="variant must be one of 20m, 10m, 1m, 100k"):
        function(variant)


def test_an_archive_of_another_variant_is_refused(tmp_path):
    source = write_zip(tmp_path / "raw.zip", raw_files("100k"), FOLDERS["100k"])
    with pytest.raises(ValueError, match=r"must contain movies\.csv"):
        generate_dataset(source, "20m", tmp_path)


def test_a_single_file_is_refused(tmp_path):
    folder = write_folder(tmp_path / "raw", raw_files("20m"))
    with pytest.raises(ValueError, match="folder or a zip file"):
        generate_dataset(folder / "ratings.csv", "20m", tmp_path)


@pytest.mark.parametrize("name", ["raw.zip", "folder"])
def test_a_missing_input_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=name):
        generate_dataset(tmp_path / name, "20m", tmp_path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_half_stars_are_kept(generate, variant):
    _, ratings = generate(variant, ratings=[(1, 2, 3.5), (1, 3, 0.5)])
    assert ratings[2, 1] == 3.5
    assert ratings[3, 1] == 0.5


@pytest.mark.parametrize("variant", VARIANTS)
def test_of_repeated_ratings_the_last_counts(generate, variant):
    changed = [(user, movie, 6 - stars) for user, movie, stars in RATINGS]
    assert_is_sample(variant, *generate(variant, ratings=changed + RATINGS))


@pytest.mark.parametrize("last", [2, 9])
def test_titles_and_ratings_have_as_many_rows(generate, last):
    titles, ratings = generate("20m", titles={last: "Last"})
    assert ratings.shape == (max(6, last + 1), 5)
    assert len(titles) == ratings.shape[0]
    assert titles[last] == "Last"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "title", ["one :: two (1990)", "a, b (1991)", 'the "best" (1992)', "nan", "null", "a\x0bb", "NA"]
)
def test_an_odd_title_is_kept_as_it_is(generate, variant, title):
    titles, _ = generate(variant, titles={1: title, 2: "other"})
    assert titles[1:3].tolist() == [title, "other"]


def test_windows_line_ends_are_no_part_of_a_line(tmp_path, generate):
    for variant in VARIANTS:
        files = {name: content.replace(b"\n", b"\r\n") for name, content in raw_files(variant).items()}
        generate_dataset(write_folder(tmp_path / variant, files), variant, tmp_path / "cache")
        assert_is_sample(variant, *get_movielens(variant))


RATING_FAULTS = [(1, 2), (1, 2, 3, 4), ("", 2, 3), (1, "", 3), (1, 2, ""), (0, 2, 3), (1, 0, 3), (-1, 2, 3), (1, 2, 0)]
RATING_FAULTS += [(1, 2, -1), (1, 2, 5.5), (1, 2, "nan"), (1, 2, "many"), ("one", 2, 3), (1.5, 2, 3)]
RATING_FAULTS += [(2_000_000_000, 2, 3), (1, 2_000_000_000, 3), (1, 99999999999, 3), "", "\0"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("fault", RATING_FAULTS, ids=repr)
def test_a_malformed_rating_is_skipped_and_counted(generate, caplog, variant, fault):
    with caplog.at_level(logging.WARNING, logger="implicit_core"):
        assert_is_sample(variant, *generate(variant, ratings=[*RATINGS[:2], fault, *RATINGS[2:]]))
    assert f"skipped 1 malformed lines of {len(RATINGS) + 1}" in caplog.text


TITLE_FAULTS = [("20m", '2,"one quote,Drama'), ("20m", '2,"a"b,Drama'), ("20m", "2,a,b,Drama"), ("20m", "2,,Drama")]
TITLE_FAULTS += [("10m", "2::Title"), ("1m", "2:: ::Drama"), ("100k", "2||Drama|"), ("100k", "2|Title")]
TITLE_FAULTS += [(variant, title_line(variant, *fault)) for variant in VARIANTS for fault in ((0, "a"), (-1, "a"))]
TITLE_FAULTS += [(variant, title_line(variant, *fault)) for variant in VARIANTS for fault in ((10**9, "a"), ("x", "a"))]
TITLE_FAULTS += [(variant, title_line(variant, 2, "a\0b")) for variant in VARIANTS] + [("20m", ""), ("100k", "")]


@pytest.mark.parametrize(("variant", "fault"), TITLE_FAULTS)
def test_a_malformed_title_is_skipped_and_counted(generate, caplog, variant, fault):
    with caplog.at_level(logging.WARNING, logger="implicit_core"):
        assert_is_sample(variant, *generate(variant, titles={**titles_of(variant), None: fault}))
    assert f"skipped 1 malformed lines of {len(TITLES) + 1}" in caplog.text


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_header_is_not_counted_as_malformed(generate, caplog, variant):
    with caplog.at_level(logging.WARNING, logger="implicit_core"):
        generate(variant)
    assert caplog.text == ""


def test_without_its_header_no_line_is_lost(tmp_path, generate):
    files = {name: content.split(b"\n", 1)[1] for name, content in raw_files("20m").items()}
    generate_dataset(write_folder(tmp_path / "raw", files), "20m", tmp_path / "cache")
    assert_is_sample("20m", *get_movielens("20m"))


@pytest.mark.parametrize(("change", "layout"), [({"ratings": []}, "user, movie"), ({"titles": {}}, "movie and title")])
@pytest.mark.parametrize("variant", VARIANTS)
def test_files_without_entries_are_refused_and_keep_the_old_output(tmp_path, variant, change, layout):
    old = tmp_path / f"movielens_{variant}.hdf5"
    old.write_bytes(b"old")
    with pytest.raises(ValueError, match=f"must have lines of {layout}"):
        generate_dataset(write_folder(tmp_path / "raw", raw_files(variant, **change)), variant, tmp_path)
    assert old.read_bytes() == b"old"


def test_a_damaged_archive_gives_no_half_data_set(tmp_path):
    ratings = [(user, movie, 1 + (user * movie) % 5) for user in range(1, 100) for movie in range(1, 100)]
    source = write_zip(tmp_path / "raw.zip", raw_files("1m", ratings=ratings), FOLDERS["1m"])
    with zipfile.ZipFile(source) as archive:
        info = archive.getinfo("ml-1m/ratings.dat")
    content = bytearray(source.read_bytes())
    content[info.header_offset + 1000] ^= 0xFF
    source.write_bytes(content)
    with pytest.raises((zipfile.BadZipFile, zlib.error)):
        generate_dataset(source, "1m", tmp_path)
    assert list(tmp_path.rglob("*.hdf5*")) == []


def test_signatures_are_those_of_the_older_library():
    assert str(inspect.signature(get_movielens)).startswith("(variant: 'str' = '20m')")
    assert list(inspect.signature(generate_dataset).parameters) == ["path", "variant", "outputpath"]
