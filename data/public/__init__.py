"""Public data sets: one declaration each, by the name that `source` has in a config."""

from collections.abc import Mapping

from data.public.aliexpress import ALIEXPRESS
from data.public.amazon import AMAZON_2014, AMAZON_2018, AMAZON_2023
from data.public.art_of_the_mix import ART_OF_THE_MIX
from data.public.beibei import BEIBEI
from data.public.complete_journey import COMPLETE_JOURNEY
from data.public.diginetica import DIGINETICA
from data.public.food import FOOD
from data.public.globo import GLOBO
from data.public.health import MEDS, PHYSIONET_2012
from data.public.kuairand import KUAIRAND
from data.public.movielens_large import (
    MOVIELENS_10M,
    MOVIELENS_20M,
    MOVIELENS_25M,
    MOVIELENS_32M,
)
from data.public.music import CLASSIC_ROCK, THIRTY_MUSIC
from data.public.otto import OTTO
from data.public.playlists import MPD, SPOTIFY
from data.public.recipe import Recipe
from data.public.rees46 import REES46
from data.public.retailrocket import RETAILROCKET
from data.public.steam import STEAM
from data.public.taobao import TAOBAO, TAOBAO_SLICE
from data.public.tenrec import TENREC
from data.public.tmall import TMALL_2014, TMALL_IJCAI15
from data.public.trivago import TRIVAGO
from data.public.trivago_shown import TRIVAGO_SHOWN
from data.public.yelp import YELP
from data.public.yoochoose import YOOCHOOSE_BUYS, YOOCHOOSE_CLICKS

RECIPES: Mapping[str, Recipe] = {
    "30music": THIRTY_MUSIC,
    "aliexpress": ALIEXPRESS,
    "amazon-2014": AMAZON_2014,
    "amazon-2018": AMAZON_2018,
    "amazon-2023": AMAZON_2023,
    "art-of-the-mix": ART_OF_THE_MIX,
    "beibei": BEIBEI,
    "classic-rock": CLASSIC_ROCK,
    "complete-journey": COMPLETE_JOURNEY,
    "diginetica": DIGINETICA,
    "food-com": FOOD,
    "globo": GLOBO,
    "kuairand": KUAIRAND,
    "meds": MEDS,
    "movielens-10m": MOVIELENS_10M,
    "movielens-20m": MOVIELENS_20M,
    "movielens-25m": MOVIELENS_25M,
    "movielens-32m": MOVIELENS_32M,
    "otto": OTTO,
    "physionet-2012": PHYSIONET_2012,
    "rees46": REES46,
    "retailrocket": RETAILROCKET,
    "spotify-mpd": MPD,
    "spotify-playlists": SPOTIFY,
    "steam": STEAM,
    "taobao": TAOBAO,
    "taobao-slice": TAOBAO_SLICE,
    "tenrec": TENREC,
    "tmall-2014": TMALL_2014,
    "tmall-ijcai15": TMALL_IJCAI15,
    "trivago": TRIVAGO,
    "trivago-shown": TRIVAGO_SHOWN,
    "yelp": YELP,
    "yoochoose-buys": YOOCHOOSE_BUYS,
    "yoochoose-clicks": YOOCHOOSE_CLICKS,
}
