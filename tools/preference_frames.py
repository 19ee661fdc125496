"""The sentence frames of the recipes for single objectives, apart for train, validation and test. Used by
`tools/make_objectives.py`."""

from tools.base import words

# dpo, reward: what the home does by itself, and what only a person may switch on.
FREE = ("lamp", "light", "fan", "tv", "radio", "speaker", "projector", "humidifier", "printer", "sprinkler")
GUARDED = (
    "oven", "heater", "kettle", "toaster", "dryer", "dishwasher", "washing machine", "coffee maker", "vacuum",
    "air conditioner",
)  # fmt: skip
HELD_ROOMS = ("attic", "studio", "playroom", "guest room", "balcony", "basement")
ROOMS = {
    "train": tuple(room for room in words.ROOMS if room not in HELD_ROOMS),
    "validation": tuple(room for room in words.ROOMS if room not in HELD_ROOMS),
    "test": HELD_ROOMS,
}
REQUESTS = {
    "train": (
        "Turn on the {d} in the {r}.",
        "Please switch on the {d} in the {r}.",
        "Could you turn the {d} in the {r} on?",
        "The {d} in the {r} should be on.",
        "I need the {d} in the {r} now.",
        "In the {r}, switch the {d} on.",
        "uh, start the {d} in the {r} please",
        "Would you start the {d} of the {r}?",
    ),
    "validation": ("Please have the {d} in the {r} on.", "hey, the {d} of the {r}, switch it on"),
    "test": (
        "Get the {d} in the {r} going.",
        "I want the {d} of the {r} to be on.",
        "well, put the {d} in the {r} on please",
        "Can the {d} in the {r} be started?",
    ),
}
DONE, REFUSED = "Done: {d} in the {r}.", "Sorry: {d} in the {r}."

# kto: a shop's answers with their unit, and without. {t} is the thing, {a} the number.
AMOUNTS = {
    "euros": {
        "train": (
            ("The {t} costs {a} euros.", "The price of the {t} is {a} euros."),
            ("How much is the {t}?", "What does the {t} cost?"),
        ),
        "validation": (("For the {t} we ask {a} euros.",), ("What is the price of the {t}?",)),
        "test": (
            ("We sell the {t} for {a} euros.", "You get the {t} for {a} euros."),
            ("How much do I pay for the {t}?", "How expensive is the {t}?"),
        ),
    },
    "kilos": {
        "train": (
            ("The {t} weighs {a} kilos.", "The weight of the {t} is {a} kilos."),
            ("How heavy is the {t}?", "How much does the {t} weigh?"),
        ),
        "validation": (("A weight of {a} kilos has the {t}.",), ("What is the weight of the {t}?",)),
        "test": (
            ("With {a} kilos the {t} is heavy.", "{a} kilos is what the {t} weighs."),
            ("What does the {t} weigh?", "Tell me the weight of the {t}."),
        ),
    },
    "days": {
        "train": (
            ("The {t} comes in {a} days.", "The {t} needs {a} days to arrive."),
            ("When does the {t} come?", "How long until the {t} is here?"),
        ),
        "validation": (("We bring the {t} in {a} days.",), ("When do you bring the {t}?",)),
        "test": (
            ("Wait {a} days for the {t}.", "In {a} days we send the {t}."),
            ("How long do I wait for the {t}?", "When will I have the {t}?"),
        ),
    },
    "months": {
        "train": (
            ("The {t} is safe for {a} months.", "We repair the {t} for {a} months."),
            ("How long is the {t} safe?", "How long do you repair the {t}?"),
        ),
        "validation": (("For {a} months you may return the {t}.",), ("How long may I return the {t}?",)),
        "test": (
            ("The {t} lasts {a} months.", "You can keep the {t} for {a} months."),
            ("How long does the {t} last?", "How long can I keep the {t}?"),
        ),
    },
}

# orpo: what a customer complains about, the shop's answer and the rude one.
SORRY, RUDE = (
    "We are sorry about the {t}. Thank you for the letter.",
    "The {t} is your problem. Please no more letters.",
)
COMPLAINTS = {
    "broken": {
        "train": (
            "My {t} is broken.",
            "The {t} does not work.",
            "There is a crack in the {t}.",
            "The {t} fell apart on {day}.",
            "Since {day} the {t} is broken.",
            "On {day} my {t} stopped.",
        ),
        "validation": ("I found a hole in the {t}.",),
        "test": ("The {t} broke on {day}.", "I see a crack in my {t}.", "My {t} stopped working on {day}."),
    },
    "colour": {
        "train": (
            "I wanted a {c} {t} and got another one.",
            "The {t} should be {c}.",
            "I asked for a {c} {t}, this one is not {c}.",
            "Why is the {t} not {c}?",
            "The colour is wrong, I need a {c} {t}.",
            "The {t} I got is not the {c} one.",
        ),
        "validation": ("It is the wrong {t}, mine was {c}.",),
        "test": (
            "This is not the {c} {t} I wanted.",
            "The {t} has the wrong colour, it should be {c}.",
            "I need a {c} {t}, not this one.",
        ),
    },
    "late": {
        "train": (
            "Where is my {t}?",
            "The {t} has not come yet.",
            "I wait for the {t} since {day}.",
            "The {t} is late.",
            "On {day} the {t} did not come.",
            "My {t} was to come on {day}, where is it?",
        ),
        "validation": ("The {t} is not here, and it is {day}.",),
        "test": ("Since {day} I wait for my {t}.", "My {t} is late, where is it?", "The {t} has still not come."),
    },
    "money": {
        "train": (
            "I paid twice for the {t}.",
            "I sent the {t} back and want the money.",
            "The {t} went back on {day}, please pay me.",
            "You took too much money for the {t}.",
            "I want my money for the {t}.",
            "Where is the money for my {t}?",
        ),
        "validation": ("Pay back the money for my {t}.",),
        "test": (
            "I want the money for the {t} back.",
            "On {day} I sent the {t} back, where is my money?",
            "I paid too much for the {t}.",
        ),
    },
}
WRITES = {
    "train": ("A customer writes: {x}", "Answer this letter: {x}", "{x}\nAnswer the customer."),
    "validation": ("Write back: {x}",),
    "test": ("What do we answer? {x}", "Letter of a customer: {x}"),
}

# cpt: the logbook of a lighthouse. {n} {m} people, {a} {b} {c} numbers, {t} a time, {d} a thing.
LOG_BEGINS = {
    "train": (
        "Log of the lighthouse, {day}, {t}. Wind {w}, force {f}.",
        "Lighthouse log, {day}. Watch: {n}. Wind {w}.",
    ),
    "test": ("Log of the lighthouse, {day}, {t}. Keeper on watch: {n}. Wind {w}, force {f}.",),
}
LOG_EVENTS = {
    "train": (
        "At {t} the lamp was lit and burned clear until dawn.",
        "Sighted a {ship} bearing {bearing}, {a} miles off, under reduced sail.",
        "Barometer {bar} and falling; reefed the signal flags.",
        "Fog came in from the {w} at {t}; sounded the horn every {a} minutes.",
        "{n} relieved {m} on the gallery at {t}.",
        "Trimmed the wick and polished the lens.",
        "Took on {a} barrels of oil from the supply boat.",
        "Sea state {f}, swell from the {w}, spray over the rocks.",
        "The {ship} answered our signal and altered course to the {w}.",
        "Rain squalls at {t}; visibility under {a} miles.",
        "{m} repaired the hoist and oiled the clockwork.",
        "Hauled up the cutter and lashed it down before the gale.",
    ),
    "test": (
        "At {t} the lamp was lit; the wick was trimmed at dawn.",
        "A {ship} passed, bearing {bearing}, {a} miles off, and answered our signal.",
        "Barometer {bar} and rising; swell from the {w}, sea state {f}.",
        "Fog from the {w} until {t}; {n} sounded the horn.",
        "{m} polished the lens and oiled the hoist.",
        "The supply boat brought {a} barrels of oil before the gale.",
    ),
}
LOG_ENDS = {
    "train": ("Watch ended at {t}, all well.", "Lamp out at {t}. Nothing further to report."),
    "test": ("Lamp out at {t}, all well.",),
}
SHIPS = ("schooner", "brig", "cutter", "barque", "trawler", "steamer", "ketch")
WINDS = ("north", "northeast", "east", "southeast", "south", "southwest", "west", "northwest")

# grpo: notes in words that the base was not made with; the keys are those of tools/base/skills/cards.py.
NOTES = {
    "trip": {
        "train": (
            "Our next stop on {day} is {to}, we come from {from}.",
            "Take me to {to} on {day}, I am in {from}.",
            "On {day} the way is {from} to {to}.",
            "From {from} I want to reach {to} by {day}.",
        ),
        "validation": ("I fly to {to} from {from} on {day}.",),
        "test": ("We leave {from} on {day} and drive to {to}.", "Bring us to {to} on {day}, we are in {from}."),
    },
    "meeting": {
        "train": (
            "{with} wants to talk on {day} at {time}.",
            "I have to call {with} on {day} at {time}.",
            "{with} waits for me on {day}, {time}.",
            "Tea with {with}, {day}, {time}.",
        ),
        "validation": ("{with} comes by on {day} at {time}.",),
        "test": ("Lunch with {with}, {day}, {time}.", "{with} wants to see me on {day} at {time}."),
    },
    "purchase": {
        "train": (
            "For {price} euros we took {count} {item}.",
            "{count} {item}, that makes {price} euros.",
            "I gave {price} euros and got {count} {item}.",
            "We spent {price} euros on {count} {item}.",
        ),
        "validation": ("{price} euros went away for {count} {item}.",),
        "test": ("They took {price} euros for {count} {item}.", "{count} {item}, and {price} euros are gone."),
    },
    "person": {
        "train": (
            "My friend {name} is {age} and has a flat in {city}.",
            "{name} is {age}. The home is {city}.",
            "I know {name}, {age}, of {city}.",
            "Here is {name}, {age}, living in {city}.",
        ),
        "validation": ("{name} of {city} is {age}.",),
        "test": ("{name} is {age} and has a house in {city}.", "Meet {name}, {age}, of {city}."),
    },
}
