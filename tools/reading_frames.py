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

# A passage is one sentence about a person, {n}, and its number behind it; questions name the person. "answer" is what
# they ask for.
FACTS = {
    "city": {
        "said": ("{n} lives in {a}", "{n} has a house in {a}", "{n} moved to {a}"),
        "answer": "a",
        "train": ("Where does {n} live?", "In which city does {n} live?", "Where is the home of {n}?"),
        "validation": ("Name the city of {n}.",),
        "test": ("Which city does {n} live in?", "What is the city of {n}?"),
    },
    "job": {
        "said": ("{n} works as {an_a}", "{n} is {an_a}"),
        "answer": "a",
        "train": ("What is the job of {n}?", "What does {n} do for a living?", "As what does {n} earn money?"),
        "validation": ("What does {n} work as?",),
        "test": ("Which job does {n} have?", "What work does {n} do?"),
    },
    "colour": {
        "said": ("{n} has {an_a} {b}", "{n} owns {an_a} {b}"),
        "answer": "a",
        "train": (
            "What colour is the {b} of {n}?",
            "Which colour has the {b} of {n}?",
            "The {b} of {n}, in which colour is it?",
        ),
        "validation": ("Which colour does {n} have?",),
        "test": ("{n} has a {b}: in which colour?", "Which colour is the {b} that {n} has?"),
    },
    "food": {
        "said": ("{n} likes {a}", "{n} eats {a}"),
        "answer": "a",
        "train": ("What does {n} like to eat?", "What is the favourite food of {n}?", "What should I cook for {n}?"),
        "validation": ("Which food does {n} like?",),
        "test": ("What does {n} eat?", "What would {n} like to have for dinner?"),
    },
    "day": {
        "said": ("{n} comes on {a}", "{n} is here on {a}"),
        "answer": "a",
        "train": ("On which day does {n} come?", "Which day goes with {n}?", "When will {n} be here?"),
        "validation": ("When does {n} come?",),
        "test": ("On what day is {n} here?", "Which day does {n} come?"),
    },
    "put": {
        "said": ("{n} put the {a} in the {b}", "{n} left the {a} in the {b}"),
        "answer": "b",
        "train": ("Where did {n} put the {a}?", "In what did {n} put the {a}?", "Where is the {a} that {n} had?"),
        "validation": ("Where is the {a} of {n}?",),
        "test": ("Where did {n} leave the {a}?", "What did {n} put the {a} in?"),
    },
}

# Requests that a tool answers, and what is said once it has. A tool is offered by one of its names, so that the name of
# a call has to be read in the list of tools.
TOOLS = {
    "weather": {
        "names": ("weather", "forecast"),
        "arguments": ("city", "day"),
        "train": (
            "How is the weather in {city} on {day}?",
            "Will it rain in {city} on {day}?",
            "On {day} I am in {city}, will it be warm?",
            "Do I need an umbrella in {city} on {day}?",
            "Tell me the weather of {city} for {day}.",
            "{day} in {city}: sun or rain?",
            "We travel to {city} on {day}. Is it cold there?",
            "What is it like in {city} on {day}?",
        ),
        "validation": ("Is it cold in {city} on {day}?",),
        "test": ("I go to {city} on {day}, is it warm there?", "What weather does {city} have on {day}?"),
        "result": "{number} degrees",
        "answer": "It will be {number} degrees in {city}.",
    },
    "meet": {
        "names": ("meet", "plan"),
        "arguments": ("name", "day"),
        "train": (
            "I meet {name} on {day}.",
            "Note that {name} comes on {day}.",
            "On {day} there is a meeting with {name}.",
            "Please plan {day} with {name}.",
            "Write down a meeting with {name} for {day}.",
            "I see {name} on {day}.",
            "{day} is for {name}, put it down.",
            "Keep {day} free, I meet {name}.",
        ),
        "validation": ("{name} and I meet on {day}.",),
        "test": ("Write down that I see {name} on {day}.", "Put {name} into my plan for {day}."),
        "result": "free at {number}",
        "answer": "You meet {name} at {number}.",
    },
    "buy": {
        "names": ("buy", "order"),
        "arguments": ("item", "count"),
        "train": (
            "Order {count} {item} for me.",
            "We need {count} {item}.",
            "Please buy {count} {item} today.",
            "I want {item}, {count} of them.",
            "Get me {count} {item}, please.",
            "Could you order {count} {item}?",
            "The {item} are gone, get {count}.",
            "There should be {count} {item} at home.",
        ),
        "validation": ("Get us {count} {item}.",),
        "test": ("Could you get {count} {item}?", "There are no {item} left, buy {count}."),
        "result": "{number} euros",
        "answer": "The {item} cost {number} euros.",
    },
    "ticket": {
        "names": ("ticket", "travel"),
        "arguments": ("city", "by"),
        "train": (
            "I want to go to {city} by {by}.",
            "Book a {by} to {city}.",
            "Get me to {city}, I take the {by}.",
            "We travel by {by} to {city}.",
            "Find a {by} to {city} for me.",
            "I have to go to {city}, by {by} if there is one.",
            "Is there a {by} that goes to {city}?",
            "I take the {by} and have to be in {city} early.",
        ),
        "validation": ("A seat in the {by} to {city}, please.",),
        "test": ("Find me a {by} that goes to {city}.", "I have to be in {city} and take the {by}."),
        "result": "{number} euros",
        "answer": "The {by} to {city} costs {number} euros.",
    },
    "find": {
        "names": ("find", "search"),
        "arguments": ("thing",),
        "train": (
            "Where is my {thing}?",
            "I cannot find the {thing}.",
            "Look for the {thing}, please.",
            "Have you seen my {thing}?",
            "I look for a {thing}.",
            "Who took the {thing}?",
            "Somebody has my {thing}, find it.",
            "Can you tell me where the {thing} is?",
        ),
        "validation": ("My {thing} is gone.",),
        "test": ("I am looking for my {thing}.", "Somebody took the {thing}, where is it?"),
        "result": "in the {place}",
        "answer": "The {thing} is in the {place}.",
    },
    "call": {
        "names": ("call", "phone"),
        "arguments": ("name",),
        "train": (
            "Call {name} for me.",
            "I want to speak with {name}.",
            "Ring {name}, please.",
            "Phone {name} now.",
            "I have to speak to {name}.",
            "Can you call {name}?",
            "I need to talk with {name} now.",
            "Let me talk to {name}, give me a line.",
        ),
        "validation": ("Get {name} on the phone.",),
        "test": ("I have to talk to {name}.", "Give {name} a call."),
        "result": "no answer",
        "answer": "{name} did not answer.",
    },
}
