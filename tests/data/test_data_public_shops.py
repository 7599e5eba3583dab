"""Shops in the form in which each is published, a few rows by hand."""

import json
from collections.abc import Callable
from datetime import datetime

import polars as pl
import pytest

from data.tables import Tables

VIEWS = "sessionId;userId;itemId;timeframe;eventdate\n1;NA;81766;526309;2016-05-09\n"
BUYS = (
    "sessionId;userId;timeframe;eventdate;ordernumber;itemId\n"
    "150;18278;17100868;2016-05-06;1;25911\n"
)

TRIVAGO_LISTS = (
    "user_id,session_id,timestamp,step,action_type,reference,platform,city,device,"
    "current_filters,impressions,prices\n"
    "U,s,1541037470,2,interaction item image,14,AU,Sydney,mobile,,,\n"
    "U,s,1541037460,1,interaction item info,13,AU,Sydney,mobile,,,\n"
    "U,s,1541037480,3,clickout item,14,AU,Sydney,mobile,,13|14,5|6\n"
    "U,s,1541037490,4,change of sort order,price,AU,Sydney,mobile,,,\n"
    "U,s,1541037500,5,clickout item,15,AU,Sydney,mobile,,15,5\n"
)
ALIEXPRESS_HEADER = ",".join(
    [
        "search_id",
        *(f"categorical_{i}" for i in range(1, 17)),
        *(f"numerical_{i}" for i in range(1, 64)),
        "click",
        "conversion\n",
    ]
)
PUBLISHED = {
    "amazon-2014": (
        "Beauty",
        {
            "amazon-2014/reviews_Beauty_5.json.gz": json.dumps(
                {"reviewerID": "A1", "asin": "B1", "overall": 4.0, "unixReviewTime": 86_400, "x": 1}
            ),
            "amazon-2014/meta_Beauty.json.gz": "{'asin': 'B1', 'title': \"It's\", 'price': 2.5, "
            "'categories': [['Beauty', 'Hair']]}\n{'asin': 'B2'}",
        },
        [
            ("A1", "B1", datetime(1970, 1, 2), "review"),
            ("B1", "It's", None, 2.5, ["Beauty", "Hair"]),
        ],
    ),
    "amazon-2018": (
        "Gift_Cards",
        {
            "amazon-2018/Gift_Cards.json.gz": json.dumps(
                {"reviewerID": "A1", "asin": "B1", "overall": 4.0, "unixReviewTime": 86_400}
            ),
            "amazon-2018/meta_Gift_Cards.json.gz": json.dumps(
                {"asin": "B1", "title": "Card", "price": "$12.30", "category": ["Gift", "Card"]}
            ),
        },
        [
            ("A1", "B1", datetime(1970, 1, 2), "review"),
            ("B1", "Card", None, 12.3, ["Gift", "Card"]),
        ],
    ),
    "amazon-2023": (
        "All_Beauty",
        {
            "amazon-2023/All_Beauty.jsonl": json.dumps(
                {"user_id": "U", "parent_asin": "B1", "rating": 5.0, "timestamp": 1_588_687_728_923}
            ),
            "amazon-2023/meta_All_Beauty.jsonl": json.dumps(
                {"parent_asin": "B1", "title": "Oil", "store": "S", "price": None, "categories": []}
            ),
        },
        [
            ("U", "B1", datetime(2020, 5, 5, 14, 8, 48, 923_000), "review"),
            ("B1", "Oil", "S", None, []),
        ],
    ),
    "diginetica": (
        "",
        {
            "diginetica-raw/train-item-views.csv": VIEWS,
            "diginetica-raw/train-purchases.csv": BUYS,
            "diginetica-raw/product-categories.csv": "itemId;categoryId\n81766;1096\n",
            "diginetica-raw/products.csv": "itemId;pricelog2;product.name.tokens\n"
            "5;8;91\n81766;10;4875,776,56689\n",
        },
        [
            (-1, 81766, datetime(2016, 5, 9, 0, 8, 46, 309_000), "view"),
            (81766, "1096", "10", ["4875", "776", "56689"]),
        ],
    ),
    "otto": (
        "",
        {
            "otto/otto-recsys-train.jsonl": json.dumps(
                {"session": 3, "events": [{"aid": 5, "ts": 1_659_304_800_025, "type": "carts"}]}
            ),
        },
        [(3, 5, datetime(2022, 7, 31, 22, 0, 0, 25_000), "cart")],
    ),
    "rees46": (
        "",
        {
            "rees46/2019-Oct.csv": "event_time,event_type,product_id,category_id,category_code,"
            "brand,price,user_id,user_session\n"
            "2019-10-01 00:00:01 UTC,view,4,21,electronics.phone,,35.79,541,72d\n"
            "2019-10-02 00:00:01 UTC,view,4,21,electronics.phone,late,99.0,541,72d\n",
        },
        [
            (541, 4, datetime(2019, 10, 1, 0, 0, 1), "view"),
            (4, ["electronics", "phone"], "21", None, 35.79),
        ],
    ),
    "retailrocket": (
        "",
        {
            "retailrocket/events.csv": "timestamp,visitorid,event,itemid,transactionid\n"
            "1433221332117,257597,addtocart,355908,\n",
            "retailrocket/item_properties_part1.csv": "timestamp,itemid,property,value\n"
            "1435460400000,355908,categoryid,1338\n1433000000000,355908,categoryid,7\n",
        },
        [(257597, 355908, datetime(2015, 6, 2, 5, 2, 12, 117_000), "cart"), (355908, "7")],
    ),
    "taobao": (
        "",
        {"taobao/UserBehavior.csv": "1,2268318,2520377,pv,1511544070\n"},
        [(1, 2268318, datetime(2017, 11, 24, 17, 21, 10), "click"), (2268318, "2520377")],
    ),
    "tmall-ijcai15": (
        "",
        {
            "ijcai-15/user_log_format1.csv": "user_id,item_id,cat_id,seller_id,brand_id,time_stamp,"
            "action_type\n328862,323294,833,2882,,0829,2\n",
            "ijcai-15/user_info_format1.csv": "user_id,age_range,gender\n328862,6,1\n",
        },
        [(328862, 323294, datetime(2014, 8, 29), "buy"), (323294, "833", "2882", None)],
    ),
    "trivago": (
        "",
        {
            "trivago/train.csv": "user_id,session_id,timestamp,step,action_type,reference,platform,"
            "city,device,current_filters,impressions,prices\n"
            "U,s,1541037460,2,clickout item,13,AU,Sydney,mobile,,13|14,5|6\n"
            "U,s,1541037460,1,search for poi,Newtown,AU,Sydney,mobile,,,\n",
            "trivago/item_metadata.csv": "item_id,properties\n13,Bar|Lift\n",
        },
        [("U", 13, datetime(2018, 11, 1, 1, 57, 40), "clickout item"), (13, ["Bar", "Lift"])],
    ),
    "trivago-shown": (
        "",
        {"trivago/train.csv": TRIVAGO_LISTS},
        [("U", 13, datetime(2018, 11, 1, 1, 57, 40), "shown")],
    ),
    "aliexpress": (
        "NL",
        {
            "aliexpress/NL/train.csv": ALIEXPRESS_HEADER
            + "s1,"
            + "4," * 16
            + "0.5," * 63
            + "1,0\n",
            "aliexpress/NL/test.csv": ALIEXPRESS_HEADER + "s2," + "5," * 16 + "1.5," * 63 + "1,1\n",
        },
        [
            ("s1", 1, datetime(2000, 1, 1, 0, 0, 1), "view"),
            (1, *["4"] * 16, *[0.5] * 63),
        ],
    ),
    "yoochoose-clicks": (
        "",
        {"yoochoose/yoochoose-clicks.dat": "1,2014-04-07T10:51:09.277Z,214536502,0\n"},
        [(1, 214536502, datetime(2014, 4, 7, 10, 51, 9, 277_000), "click"), (214536502, "0")],
    ),
    "yoochoose-buys": (
        "",
        {"yoochoose/yoochoose-buys.dat": "420374,2014-04-06T18:44:58.314Z,214537888,12462,1\n"},
        [(420374, 214537888, datetime(2014, 4, 6, 18, 44, 58, 314_000), "buy")],
    ),
}


@pytest.mark.parametrize("source", PUBLISHED)
def test_the_published_form_is_read(source: str, check_published: Callable[..., None]) -> None:
    check_published(source, *PUBLISHED[source])


def test_the_windows_of_amazon_are_put_together_again(
    put: Callable[..., None], load_public: Callable[..., Tables]
) -> None:
    rows = [("A", [7, 8], 9), ("B", [3], 7), ("A", [7, 8, 9], 7), ("B", [3, 7], 8)]
    names = ["user_id", "history_item_ids", "target_item_id"]
    items = [(item, f"t{item}", "x", "long") for item in (3, 7, 8, 9)]
    folder = "amazon2018_office_windows"
    put(
        {
            f"{folder}/sequences.parquet": pl.DataFrame(rows, schema=names, orient="row"),
            f"{folder}/items.parquet": pl.DataFrame(
                items, schema=["item_id", "title", "brand", "description"], orient="row"
            ),
        }
    )
    tables = load_public("amazon-2018", "office_windows")
    events = tables.events.sort("user_id", "timestamp", maintain_order=True)
    assert events.group_by("user_id", maintain_order=True).agg("item_id").rows() == [
        ("A", [7, 8, 9, 7]),
        ("B", [3, 7, 8]),
    ]
    assert tables.item_columns["description"] == "text"


def test_the_rows_of_two_files_come_together(
    put: Callable[..., None], load_public: Callable[..., Tables]
) -> None:
    put(PUBLISHED["diginetica"][1])
    buy = load_public("diginetica").events.filter(pl.col("event") == "buy")
    assert buy.select("user_id", "session_id").rows() == [(18278, 150)]


def test_test_sessions_of_diginetica_are_put_together_again(
    put: Callable[..., None], load_public: Callable[..., Tables]
) -> None:
    train = {"session_id": [0, 0], "item_id": [1, 2], "position": [0, 1]}
    prefixes = {  # of the sessions 5 6 7 and 6 9
        "prefix_item_ids": [[5, 6], [5], [6]],
        "target_item_id": [7, 6, 9],
    }
    put(
        {
            "diginetica/sessions_train.parquet": pl.DataFrame(train),
            "diginetica/test_prefixes.parquet": pl.DataFrame(prefixes),
        },
    )
    events = load_public("diginetica").events
    sessions = events.group_by("user_id", maintain_order=True).agg("item_id").rows()
    assert sessions == [(0, [1, 2]), (1_000_000, [5, 6, 7]), (1_000_001, [6, 9])]


def test_a_list_of_trivago_is_shown_before_what_was_done_with_it(
    put: Callable[..., None], load_public: Callable[..., Tables]
) -> None:
    put(PUBLISHED["trivago-shown"][1])
    found = load_public("trivago-shown").events.select("item_id", "event", "timestamp")
    start = datetime(2018, 11, 1, 1, 57, 40)
    assert [(item, event, (at - start).seconds) for item, event, at in found.rows()] == [
        (13, "shown", 0),
        (14, "shown", 0),
        (13, "interaction item info", 0),
        (14, "interaction item image", 10),
        (14, "clickout item", 20),
        (15, "shown", 40),  # the sort order changed in between
        (15, "clickout item", 40),
    ]


def test_rows_of_aliexpress_are_events_in_the_order_of_the_files(
    put: Callable[..., None], load_public: Callable[..., Tables]
) -> None:
    put(PUBLISHED["aliexpress"][1])
    events = load_public("aliexpress", "NL").events
    assert events.select("user_id", "item_id", "event").rows() == [
        ("s1", 1, "view"),
        ("s1", 1, "click"),
        ("s2", 2, "view"),
        ("s2", 2, "click"),
        ("s2", 2, "buy"),
    ]
