"""The words the synthetic corpus is written with. Plain data; the skills decide what is said with them."""


def listed(text: str) -> list[str]:
    """The words of a line; split at commas where there are any."""
    return text.split("," if "," in text else None)


NAMES = listed(
    "Adam Aisha Alex Alice Amir Ana Andre Anna Ben Bella Bruno Carla Carlos Chloe Clara Daniel David Diana Elena Eli "
    "Emil Emma Erik Eva Felix Finn Fatima Frank Grace George Hana Hannah Harry Hugo Ines Ivan Iris Jack Jana Jonas "
    "Julia Karim Kate Kenji Lara Laura Leo Liam Lina Lucas Lucy Maria Mark Marta Max Maya Mia Mina Nadia Nina Noah "
    "Nora Olga Oliver Omar Oscar Paul Peter Petra Priya Rosa Ravi Robin Ruth Sam Sara Simon Sofia Stella Tara Theo "
    "Tim Tom Uma Vera Victor Wanda Will Yara Yusuf Zoe"
)
# Never in the corpus: they appear in held-out rows only.
HELD_NAMES = listed("Abel Celia Dario Edith Gwen Ilse Joris Kofi Livia Marek Nestor Odile Pavel Quinn Rufus Selma")

CITIES = listed(
    "Athens Berlin Bergen Boston Cairo Chicago Dublin Geneva Hamburg Helsinki Lagos Lima Lisbon London Lyon Madrid "
    "Milan Moscow Mumbai Munich Nairobi Oslo Paris Prague Quito Rome Seoul Sydney Tokyo Toronto Turin Vienna Warsaw "
    "Zurich"
)
JOBS = listed(
    "baker nurse teacher pilot farmer driver singer painter doctor cook gardener plumber writer dentist judge "
    "carpenter tailor waiter librarian engineer lawyer mechanic actor fisherman"
)
FOODS = listed("pizza soup pasta rice salad pancakes curry sushi stew noodles tacos lasagna porridge risotto")
PET_NAMES = listed("Biscuit Pepper Luna Rocky Coco Milo Bella Shadow Ginger Socks Bruno Daisy Oreo Pixie")
DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = listed("January February March April May June July August September October November December")
VEHICLES = listed("bus train bike car tram boat taxi ferry")
PLACES = listed("market library station museum school park bakery hospital office beach harbour cinema theatre farm")
CONTAINERS = listed("drawer box bag basket cupboard fridge suitcase shelf bucket chest pocket backpack")
THINGS = listed(
    "hat scarf bike car umbrella chair bag coat phone kite lamp mug ring tent boat guitar jacket notebook pen key ball "
    "book clock mirror bottle watch towel blanket camera ladder candle cup plate spoon"
)
COLOURS = listed("red blue green yellow black white brown grey pink purple orange golden silver")

CATEGORIES = {
    "fruit": listed("apple banana pear plum cherry grape lemon mango peach melon kiwi fig"),
    "vegetable": listed("carrot onion potato cabbage spinach pea leek pumpkin cucumber beetroot garlic broccoli"),
    "animal": listed("dog cat horse cow sheep goat lion tiger rabbit fox wolf bear mouse pig"),
    "bird": listed("eagle owl swan duck robin crow parrot sparrow stork penguin"),
    "tool": listed("hammer saw drill screwdriver wrench shovel rake axe pliers chisel"),
    "instrument": listed("piano violin guitar drum flute trumpet harp cello banjo clarinet"),
    "colour": listed("red blue green yellow black white brown grey pink purple"),
    "furniture": listed("table chair sofa bed desk shelf bench wardrobe stool cupboard"),
    "drink": listed("water milk tea coffee juice lemonade cocoa cider"),
    "clothing": listed("shirt hat scarf coat sock glove skirt jacket sweater boot"),
    "vehicle": listed("bus train bike car tram boat taxi ferry truck plane"),
    "metal": listed("iron gold silver copper tin lead zinc steel"),
}
PLURALS = {
    "fruit": "fruits", "vegetable": "vegetables", "animal": "animals", "bird": "birds", "tool": "tools",
    "instrument": "instruments", "colour": "colours", "furniture": "pieces of furniture", "drink": "drinks",
    "clothing": "clothes", "vehicle": "vehicles", "metal": "metals",
}  # fmt: skip
COUNTED = listed(
    "apples eggs lemons books pens cups candles tickets oranges carrots onions plates stamps cookies balloons buttons "
    "flowers bottles coins shells"
)

OPPOSITES = [
    tuple(pair.split("/"))
    for pair in listed(
        "hot/cold big/small tall/short fast/slow old/young dark/light wet/dry open/closed full/empty hard/soft "
        "happy/sad early/late rich/poor strong/weak clean/dirty loud/quiet thick/thin wide/narrow deep/shallow "
        "heavy/weightless near/far high/low up/down left/right in/out on/off day/night morning/evening summer/winter "
        "buy/sell push/pull win/lose start/stop give/take come/go laugh/cry ask/answer love/hate remember/forget "
        "arrive/leave lock/unlock rise/fall before/after above/below inside/outside first/last north/south east/west "
        "true/false front/back begin/end friend/enemy question/reply cheap/expensive sharp/blunt rough/smooth "
        "sweet/bitter awake/asleep alive/dead brave/afraid polite/rude lazy/busy safe/dangerous easy/difficult "
        "same/different many/few always/never more/less warm/cool bright/dim"
    )
]
HOMES = {  # who lives where, what is made of what: small facts about the world
    "bee": "hive", "bird": "nest", "dog": "kennel", "horse": "stable", "spider": "web", "fish": "water",
    "bear": "cave", "rabbit": "burrow", "pig": "sty", "chicken": "coop", "ant": "anthill", "lion": "den",
}  # fmt: skip
YOUNG = {
    "dog": "puppy", "cat": "kitten", "cow": "calf", "horse": "foal", "sheep": "lamb", "goat": "kid", "pig": "piglet",
    "hen": "chick", "duck": "duckling", "bear": "cub", "frog": "tadpole", "goose": "gosling",
}  # fmt: skip
SOUNDS = {
    "dog": "barks", "cat": "meows", "cow": "moos", "lion": "roars", "duck": "quacks", "sheep": "bleats",
    "snake": "hisses", "wolf": "howls", "pig": "grunts", "bee": "buzzes", "mouse": "squeaks", "horse": "neighs",
}  # fmt: skip
USES = {
    "knife": "cutting", "pen": "writing", "broom": "sweeping", "oven": "baking", "bed": "sleeping", "chair": "sitting",
    "soap": "washing", "needle": "sewing", "book": "reading", "camera": "taking pictures", "phone": "calling",
    "kettle": "boiling water", "umbrella": "staying dry", "clock": "telling time", "lamp": "giving light",
    "spoon": "eating soup", "key": "opening locks", "ladder": "climbing", "shovel": "digging", "brush": "painting",
}  # fmt: skip
CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "Norway": "Oslo", "Japan": "Tokyo",
    "Egypt": "Cairo", "Peru": "Lima", "Kenya": "Nairobi", "Austria": "Vienna", "Portugal": "Lisbon",
    "Greece": "Athens", "Ireland": "Dublin", "Poland": "Warsaw", "Finland": "Helsinki", "Korea": "Seoul",
}  # fmt: skip

ROOMS = listed(
    "kitchen,bedroom,living room,bathroom,hallway,garage,office,attic,basement,dining room,nursery,laundry room,"
    "guest room,porch,garden,balcony,studio,playroom"
)
DEVICES = listed(
    "lamp,light,fan,heater,oven,tv,radio,speaker,kettle,coffee maker,dishwasher,washing machine,dryer,vacuum,toaster,"
    "sprinkler,printer,humidifier,air conditioner,projector"
)
GENRES = listed("jazz rock pop classical folk blues disco reggae techno soul country opera")
DOORS = listed("front back side garage garden cellar")
GROCERIES = listed(
    "milk bread butter eggs cheese apples bananas rice pasta coffee tea sugar flour onions tomatoes carrots potatoes "
    "yogurt salt pepper honey soap paper lemons oranges"
)

# verb stem -> (past, present third person, gerund, past participle)
VERBS = {
    "clean": ("cleaned", "cleans", "cleaning", "cleaned"), "paint": ("painted", "paints", "painting", "painted"),
    "find": ("found", "finds", "finding", "found"), "lose": ("lost", "loses", "losing", "lost"),
    "buy": ("bought", "buys", "buying", "bought"), "sell": ("sold", "sells", "selling", "sold"),
    "carry": ("carried", "carries", "carrying", "carried"), "open": ("opened", "opens", "opening", "opened"),
    "close": ("closed", "closes", "closing", "closed"), "wash": ("washed", "washes", "washing", "washed"),
    "fix": ("fixed", "fixes", "fixing", "fixed"), "hide": ("hid", "hides", "hiding", "hidden"),
    "bring": ("brought", "brings", "bringing", "brought"), "see": ("saw", "sees", "seeing", "seen"),
    "take": ("took", "takes", "taking", "taken"), "move": ("moved", "moves", "moving", "moved"),
    "borrow": ("borrowed", "borrows", "borrowing", "borrowed"), "push": ("pushed", "pushes", "pushing", "pushed"),
    "watch": ("watched", "watches", "watching", "watched"), "drop": ("dropped", "drops", "dropping", "dropped"),
    "break": ("broke", "breaks", "breaking", "broken"), "hold": ("held", "holds", "holding", "held"),
}  # fmt: skip
ADJECTIVES = listed("old new small big red blue green heavy broken clean dirty cheap round shiny soft wet")

FILLERS = ("uh", "um", "er", "well", "so", "okay", "hey", "right", "hmm", "oh")

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are Sprout, a small and friendly assistant.",
    "Answer briefly.",
    "Give short answers.",
    "Follow the instruction exactly.",
    "You help people at home.",
    "Reply with the answer only.",
    "Be precise and short.",
    "You answer questions about short texts.",
    "You are a careful assistant. Write nothing but the answer.",
    "You read what people say and write what is asked for.",
    "Do what the user asks.",
)

_ONSETS = listed("b br c ch d dr f g gr h j k l m n p r s st t tr v w z")
_VOWELS = listed("a e i o u ai ea")
_CODAS = ["", "", "n", "l", "r", "s", "ck", "m", "th"]


def invented_name(rng) -> str:
    """A name nobody has: copying has to work letter by letter, not only for known words."""
    while True:
        syllables = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(rng.choice((1, 2, 2))))
        name = (syllables + rng.choice(_CODAS)).capitalize()
        if name not in HELD_NAMES:
            return name


def person(rng, split: str) -> str:
    """A person's name: from the known list, invented, or (in held-out rows) sometimes one the corpus never has."""
    roll = rng.random()
    if split == "held" and roll < 0.12:
        return rng.choice(HELD_NAMES)
    return invented_name(rng) if roll > 0.85 else rng.choice(NAMES)


def people(rng, split: str, count: int) -> list[str]:
    """`count` different names."""
    chosen: list[str] = []
    while len(chosen) < count:
        name = person(rng, split)
        if name not in chosen:
            chosen.append(name)
    return chosen


def clock(rng) -> str:
    """A time of day as people write it: 7:30, 12:05."""
    return f"{rng.randint(1, 12)}:{rng.choice((0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55)):02d}"


def article(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
