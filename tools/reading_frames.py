"""The sentence frames of the recipes that read something out of what they are given: orders to JSON, answers with
citations, tool calls; apart for train, validation and test. Used by `tools/reading_tasks.py`.
"""

# An order has who, how many of what, and where to; the day is said in some of them only, and null in the others.
ORDERS = {
    "train": (
        "{name} wants {count} {item} in {city}{day}.",
        "Please send {count} {item} to {name} in {city}{day}.",
        "Hello, this is {name} from {city}. I need {count} {item}{day}.",
        "{count} {item} for {name}, {city}{day}.",
        "I am {name} and I order {count} {item}{day}. I live in {city}.",
        "To {city}{day}: {count} {item}. The name is {name}.",
        "{name} in {city} asks for {count} {item}{day}.",
        "We need {count} {item} in {city}{day}. Ask for {name}.",
        "Can {name} get {count} {item} in {city}{day}?",
        "Will you send {name} {count} {item}{day}? It is for {city}.",
        "{item} for {name}: {count} of them{day}, to {city}.",
        "{item} are what {name} in {city} needs, {count} of them{day}.",
    ),
    "validation": (
        "{name} would like {count} {item}{day}, the address is in {city}.",
        "Bring {name} {count} {item}{day}, to {city}.",
    ),
    "test": (
        "My name is {name}, I want {count} {item}{day}. Send them to {city}.",
        "In {city}, {name} waits for {count} {item}{day}.",
        "{item}, {count} of them, for {name} in {city}{day}.",
        "Could {name} have {count} {item} sent to {city}{day}?",
    ),
}
BY_DAY = {
    "train": (" by {day}", " on {day}", " until {day}"),
    "validation": (" by {day}",),
    "test": (" by {day}", " on {day}"),
}

# A passage is one sentence and its number behind it; a question has its answer in one of them. {n} is the person.
FACTS = {
    "city": (
        ("{n} lives in {a}", "{n} has a house in {a}"),
        (("Where does {n} live?", "a"), ("Who lives in {a}?", "n")),
    ),
    "job": (("{n} works as {an_a}", "{n} is {an_a}"), (("What is the job of {n}?", "a"), ("Who is {an_a}?", "n"))),
    "colour": (
        ("{n} has {an_a} {b}", "{n} owns {an_a} {b}"),
        (("What colour is the {b} of {n}?", "a"), ("Who has the {b}?", "n")),
    ),
    "food": (("{n} likes {a}", "{n} eats {a}"), (("What does {n} like to eat?", "a"), ("Who likes {a}?", "n"))),
    "day": (
        ("{n} comes on {a}", "{n} is here on {a}"),
        (("On which day does {n} come?", "a"), ("Who comes on {a}?", "n")),
    ),
    "put": (
        ("{n} put the {a} in the {b}", "{n} left the {a} in the {b}"),
        (("What is the {a} in?", "b"), ("Who had the {a}?", "n")),
    ),
}
