"""Films, music, news, games and records of health as published, a few rows by hand."""

import json
from collections.abc import Callable
from datetime import datetime

import polars as pl
import pytest

from data.tables import Tables

SLICE = {
    "info": {"slice": "0-999"},
    "playlists": [
        {
            "pid": 7,
            "name": "rock",
            "modified_at": 1_493_424_000,
            "tracks": [
                {
                    "pos": pos,
                    "track_uri": f"spotify:track:{pos}",
                    "track_name": f"Song {pos}",
                    "artist_name": "A",
                    "album_name": "B",
                    "duration_ms": 226_000,
                }
                for pos in (1, 0)
            ],
        }
    ],
}
MIX = {
    "mix_id": 9,
    "category": "Road Trip",
    "timestamp": "2003-09-28T10:00:00.000",
    "user": {"name": "x"},
    "filtered_lists": [["SO1"]],
    "playlist": [[["peter tosh", "legalize it"], "SO1"], [["nobody", "lost"], None]],
}

PUBLISHED = {
    "art-of-the-mix": (
        "",
        {"aotm2011/aotm2011_playlists.json": json.dumps([MIX])},
        [(9, "SO1", datetime(2003, 9, 28, 10), "add"), ("SO1", "legalize it", "peter tosh")],
    ),
    "food-com": (
        "",
        {
            "food-com/RAW_interactions.csv": "user_id,recipe_id,date,rating,review\n"
            '38094,40893,2003-02-17,4,"Great,\nwith a line break"\n',
            "food-com/RAW_recipes.csv": "name,id,minutes\nwhite chili,40893,495\n",
        },
        [(38094, 40893, datetime(2003, 2, 17), "review"), (40893, "white chili")],
    ),
    "globo": (
        "",
        {
            "globo/clicks_hour_000.csv": "user_id,session_id,session_start,session_size,"
            "click_article_id,click_timestamp,click_environment,click_deviceGroup,click_os,"
            "click_country,click_region,click_referrer_type\n"
            "0,1506825423271737,1506825423000,2,157541,1506826828020,4,3,20,1,20,2\n",
            "globo/articles_metadata.csv": "article_id,category_id,created_at_ts,publisher_id,"
            "words_count\n157541,281,1506797100000,0,280\n",
        },
        [
            (0, 157541, datetime(2017, 10, 1, 3, 0, 28, 20_000), "click"),
            (157541, "281", "0", 280.0, datetime(2017, 9, 30, 18, 45)),
        ],
    ),
    "tenrec": (
        "QB",
        {
            "tenrec/QB-video.csv": "user_id,item_id,click,follow,like,share,video_category,"
            "watching_times,gender,age\n1,4,1,0,1,0,2,3,1,4\n1,9,0,0,0,0,1,0,1,4\n",
        },
        [(1, 4, datetime(2000, 1, 1, 0, 0, 1), "view"), (4, "2")],
    ),
    "kuairand": (
        "",
        {
            "kuairand/data/log_standard_4_08_to_4_21_pure.csv": "user_id,video_id,date,hourmin,"
            "time_ms,is_click,is_like,is_follow,long_view,play_time_ms,is_rand\n"
            "0,7,20220408,1400,1649397905000,1,0,0,1,900,0\n",
            "kuairand/data/video_features_basic_pure.csv": "video_id,author_id,video_type,music_id,"
            'tag\n7,5,NORMAL,33,"1,2"\n',
        },
        [
            (0, 7, datetime(2022, 4, 8, 6, 5, 5), "view"),
            (7, "5", "NORMAL", "33", ["1", "2"]),
        ],
    ),
    "meds": (
        "",
        {
            "meds/data/train/0.parquet": pl.DataFrame(
                {
                    "subject_id": [1, 1],
                    "time": [None, datetime(2010, 1, 1)],
                    "code": ["GENDER//F", "LAB//X"],
                    "numeric_value": [None, 1.5],
                }
            ),
        },
        [(1, "LAB//X", datetime(2010, 1, 1), "code")],
    ),
    "movielens-10m": (
        "",
        {
            "ml-10M100K/ratings.dat": "1::122::4.5::838985046\n",
            "ml-10M100K/movies.dat": "122::Boomerang (1992)::Comedy|Romance\n",
        },
        [
            (1, 122, datetime(1996, 8, 2, 11, 24, 6), "rating"),
            (122, "Boomerang (1992)", ["Comedy", "Romance"], 1992.0),
        ],
    ),
    "movielens-20m": (
        "",
        {
            "ml-20m/ratings.csv": "userId,movieId,rating,timestamp\n1,2,3.5,1112486027\n",
            "ml-20m/movies.csv": 'movieId,title,genres\n2,"American, The (1995)",Comedy|Drama\n',
        },
        [
            (1, 2, datetime(2005, 4, 2, 23, 53, 47), "rating"),
            (2, "American, The (1995)", ["Comedy", "Drama"], 1995.0),
        ],
    ),
    "movielens-25m": (
        "",
        {
            "ml-25m/ratings.csv": "userId,movieId,rating,timestamp\n1,296,5.0,1147880044\n",
            "ml-25m/movies.csv": "movieId,title,genres\n296,Pulp Fiction (1994),Crime\n",
        },
        [
            (1, 296, datetime(2006, 5, 17, 15, 34, 4), "rating"),
            (296, "Pulp Fiction (1994)", ["Crime"], 1994.0),
        ],
    ),
    "movielens-32m": (
        "",
        {
            "ml-32m/ratings.csv": "userId,movieId,rating,timestamp\n1,17,4.0,944249077\n",
            "ml-32m/movies.csv": "movieId,title,genres\n17,Sense (1995),(no genres listed)\n",
        },
        [(1, 17, datetime(1999, 12, 3, 19, 24, 37), "rating"), (17, "Sense (1995)", [], 1995.0)],
    ),
    "physionet-2012": (
        "",
        {
            "physionet-2012/set-a/132539.txt": "Time,Parameter,Value\n00:00,RecordID,132539\n"
            "00:00,Age,54\n01:07,GCS,15\n",
        },
        [(132539, "GCS", datetime(2000, 1, 1, 1, 7), "measurement")],
    ),
    "spotify-mpd": (
        "",
        {"spotify-mpd/data/mpd.slice.0-999.json": json.dumps(SLICE)},
        [
            (7, "spotify:track:0", datetime(2017, 4, 29), "add"),
            ("spotify:track:1", "Song 1", "A", "B", 226.0),
        ],
    ),
    "steam": (
        "",
        {
            "steam/steam_reviews.json.gz": "{u'username': u'Chaos', u'hours': 0.1, "
            "u'product_id': u'725280', u'date': u'2017-12-17', u'text': u'no'}",
            "steam/steam_games.json.gz": "{u'id': u'725280', u'app_name': u'Game', "
            "u'genres': [u'Indie'], u'price': u'Free', u'developer': u'D'}",
        },
        [
            ("Chaos", "725280", datetime(2017, 12, 17), "review"),
            ("725280", "Game", ["Indie"], None, "D"),
        ],
    ),
}


@pytest.mark.parametrize("source", PUBLISHED)
def test_the_published_form_is_read(source: str, check_published: Callable[..., None]) -> None:
    check_published(source, *PUBLISHED[source])


def test_the_reactions_of_one_row_come_in_order(
    put: Callable[..., None], load_public: Callable[..., Tables]
) -> None:
    put(PUBLISHED["kuairand"][1])
    assert load_public("kuairand").events["event"].to_list() == ["view", "click", "long_view"]


def test_a_reaction_of_tenrec_is_an_event_behind_its_view(
    put: Callable[..., None], load_public: Callable[..., Tables]
) -> None:
    put(PUBLISHED["tenrec"][1])
    events = load_public("tenrec", "QB").events
    assert events.select("item_id", "event").rows() == [
        (4, "view"),
        (4, "click"),
        (4, "like"),
        (9, "view"),
    ]
