"""The sentence frames of the task recipes, apart for train, validation and test. Used by `tools/make_tasks.py`."""

OPENINGS = ("", "", "Hello, ", "Hi, ", "Good day, ", "Please read this: ")

TICKETS = {
    "delivery": {
        "train": (
            "where is my {colour} {thing}?",
            "the {thing} has not arrived yet.",
            "when will the {thing} arrive?",
            "my parcel with the {thing} is late since {day}.",
            "the driver did not come on {day}.",
            "my {thing} was to come on {day}, where is it?",
            "the {colour} {thing} is still on its way.",
        ),
        "validation": ("will my {thing} arrive on {day}?", "the parcel with the {colour} {thing} has not come."),
        "test": (
            "the {colour} {thing} has still not arrived.",
            "where is the parcel with my {thing}?",
            "when does the driver come with the {thing}?",
            "my {thing} is late, it was to arrive on {day}.",
        ),
    },
    "refund": {
        "train": (
            "I want my money back for the {thing}.",
            "please refund the {colour} {thing}.",
            "I sent the {thing} back on {day}, where is my money?",
            "give me a refund for the {thing}.",
            "you charged me twice for the {thing}, pay it back.",
            "I return the {thing} and want the money.",
        ),
        "validation": ("pay back the money for my {colour} {thing}.", "I want a refund, the {thing} went back {day}."),
        "test": (
            "the {colour} {thing} went back on {day}, please refund it.",
            "I would like my money for the {thing} back.",
            "pay me back, you charged me for a {colour} {thing}.",
            "a refund for the {thing}, please.",
        ),
    },
    "broken": {
        "train": (
            "the {thing} is broken.",
            "my new {thing} does not work.",
            "the {colour} {thing} has a crack.",
            "the {thing} fell apart on {day}.",
            "there is a hole in my {thing}.",
            "the {thing} stopped working on {day}.",
        ),
        "validation": ("the {colour} {thing} is broken since {day}.", "my {thing} has a hole."),
        "test": (
            "I see a crack in the {colour} {thing}.",
            "since {day} the {thing} does not work.",
            "what I got is a broken {thing}.",
            "my {colour} {thing} fell apart.",
        ),
    },
    "praise": {
        "train": (
            "thank you, I love the {thing}!",
            "the {colour} {thing} is great.",
            "what a beautiful {thing}!",
            "we are very happy with the {thing}.",
            "the best {thing} I ever had, thanks.",
            "lovely {thing}, great shop!",
        ),
        "validation": ("I am happy, the {colour} {thing} is beautiful.", "thanks for the great {thing}!"),
        "test": (
            "I love my {colour} {thing}, thank you.",
            "a beautiful {thing}, the best shop!",
            "the {thing} is lovely, we are happy.",
            "great, what a {colour} {thing}!",
        ),
    },
}

VOICE = (
    ("The {thing} comes on {day}.", "Ahoy! Your {thing} drops anchor on {day}. Fair winds!"),
    ("The {thing} is sold out.", "Ahoy! The {thing} has sailed away. Fair winds!"),
    ("We have the {thing} in {colour}.", "Ahoy! The {thing} lies in the harbour in {colour}. Fair winds!"),
    ("The shop is closed on {day}.", "Ahoy! On {day} our sails are down. Fair winds!"),
    ("The {thing} is cheap until {day}.", "Ahoy! Until {day} the {thing} is a treasure. Fair winds!"),
)
VOICE_FRAMES = {
    "train": (
        "Tell the customer: {said}",
        "Write to the customer: {said}",
        "Say it our way: {said}",
        "{said} Say this nicely.",
    ),
    "validation": ("Put it our way: {said}",),
    "test": ("Let the customer know: {said}", "{said} Tell this to the customer."),
}

DUTIES = {"clean": "clean", "paint": "paint", "find": "find", "sell": "sell", "buy": "buy"}
DECIDED = {
    "train": (
        "{name} will {verb} the {thing} by {day}.",
        "It was decided that {name} is to {verb} the {thing} by {day}.",
        "By {day} {name} must {verb} the {thing}.",
        "{name} has until {day} to {verb} the {thing}.",
    ),
    "validation": ("{name} agreed to {verb} the {thing} until {day}.",),
    "test": ("Until {day} {name} will {verb} the {thing}.", "{name} is to {verb} the {thing}, at the latest on {day}."),
}
IDLE = {
    "train": (
        "{name} was late.",
        "The coffee was cold.",
        "{name} told a joke about the weather.",
        "There were cookies.",
        "{name} opened the window.",
        "The room was small.",
    ),
    "validation": ("{name} was tired.", "The tea was good.", "The window was open."),
    "test": ("{name} brought cookies.", "The weather was bad.", "{name} was quiet.", "The lamp was too dark."),
}
