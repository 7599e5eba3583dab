"""Names for the synthetic shop: what its items, leaves, brands and people are called."""

DEPARTMENTS = {
    "Outdoor": (
        ("Footwear", "trail running shoe"),
        ("Footwear", "hiking sock"),
        ("Clothing", "rain jacket"),
        ("Packs", "day pack"),
        ("Packs", "trekking pole"),
    ),
    "Kitchen": (
        ("Coffee", "coffee grinder"),
        ("Coffee", "espresso maker"),
        ("Coffee", "milk frother"),
        ("Tableware", "stoneware mug"),
        ("Tableware", "dessert plate"),
    ),
    "Studio": (
        ("Cameras", "compact camera"),
        ("Cameras", "prime lens"),
        ("Support", "travel tripod"),
        ("Support", "camera strap"),
        ("Lighting", "softbox lamp"),
    ),
    "Music": (
        ("Strings", "acoustic guitar"),
        ("Strings", "guitar tuner"),
        ("Keys", "stage piano"),
        ("Keys", "piano bench"),
        ("Stage", "microphone stand"),
    ),
    "Cycling": (
        ("Bikes", "city bicycle"),
        ("Safety", "bicycle helmet"),
        ("Safety", "rear light"),
        ("Luggage", "pannier bag"),
        ("Care", "chain oil"),
    ),
    "Garden": (
        ("Tools", "hedge shears"),
        ("Tools", "watering can"),
        ("Planting", "terracotta pot"),
        ("Planting", "herb seed set"),
        ("Living", "folding deck chair"),
    ),
    "Desk": (
        ("Writing", "fountain pen"),
        ("Writing", "dotted notebook"),
        ("Screens", "monitor arm"),
        ("Screens", "mechanical keyboard"),
        ("Order", "document tray"),
    ),
    "Play": (
        ("Building", "marble run"),
        ("Building", "wooden train"),
        ("Tabletop", "strategy game"),
        ("Tabletop", "jigsaw puzzle"),
        ("Craft", "watercolour box"),
    ),
}
LEAVES = tuple(
    (department, category, product)
    for department, leaves in DEPARTMENTS.items()
    for category, product in leaves
)
BRAND_NAMES = (
    "Kiesel", "Lumo", "Fjellby", "Tannhof", "Brisa", "Corvane",
    "Nordwind", "Halden", "Ostermark", "Vellano", "Arkadia", "Maison Roux",
)  # fmt: skip
"""From the cheapest to the dearest: as many as `shop.BRANDS`."""
STYLES = ("light", "classic", "compact", "pro", "everyday", "vintage", "premium", "modern")
COLOURS = (
    "blue", "black", "sand", "olive", "red", "white",
    "graphite", "teal", "copper", "mint", "plum", "ochre",
)  # fmt: skip
NAMES = (
    "ada", "ben", "clara", "dario", "elif", "farid", "greta", "hugo", "ines", "jonas",
    "kaia", "leon", "mira", "nils", "olga", "pablo", "quinn", "rosa", "samir", "tilda",
    "umar", "vera", "wanda", "xavi", "yara", "zeno", "amira", "bruno", "celia", "dmitri",
    "esra", "felix", "gita", "hanna", "ivan", "jule", "kofi", "lena", "mateo", "nora",
    "oskar", "paula", "rafi", "selma", "theo", "ursula", "viktor", "wim", "yusuf", "zoe",
)  # fmt: skip


def leaf_path(leaf: int) -> list[str]:
    """Department, category and product of a leaf; leaves beyond the list are a further series.

    >>> leaf_path(0), leaf_path(40)[2]
    (['Outdoor', 'Footwear', 'trail running shoe'], 'trail running shoe series 2')
    """
    department, category, product = LEAVES[leaf % len(LEAVES)]
    series = leaf // len(LEAVES)
    return [department, category, f"{product} series {series + 1}" if series else product]


def person_name(user: int) -> str:
    """A name, with a number from the second person of that name on.

    >>> person_name(0), person_name(50), person_name(51)
    ('ada', 'ada2', 'ben2')
    """
    again = user // len(NAMES)
    return f"{NAMES[user % len(NAMES)]}{again + 1 if again else ''}"
