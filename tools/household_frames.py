"""The sentences of the quickstart's household commands: what is said, in which frames, and the ten tools.

Plain data for tools/make_household.py. No frame may stand in two splits.
"""

SYSTEM = "You control a home. Reply with one JSON tool call."


def listed(text: str) -> list[str]:
    """The words of a line; split at commas where there are any."""
    return text.split("," if "," in text else None)


ROOMS = listed(
    "kitchen,bedroom,living room,bathroom,hallway,garage,office,attic,basement,dining room,nursery,laundry room,"
    "guest room,porch,studio,playroom"
)
DEVICES = listed(
    "lamp,fan,heater,oven,tv,radio,kettle,coffee maker,dishwasher,washing machine,dryer,vacuum,toaster,sprinkler,"
    "printer,humidifier,projector"
)
GENRES = listed("jazz rock pop classical folk blues disco reggae techno soul country opera")
DOORS = listed("front back side garage garden cellar")
GROCERIES = listed(
    "milk bread butter eggs cheese apples bananas rice pasta coffee tea sugar flour onions tomatoes carrots potatoes "
    "yogurt honey soap lemons oranges"
)
# What is said before and after the frame itself; part of everyday speech, the same in all splits.
BEFORE = ("", "", "", "", "please ", "hey, ", "uh, ", "um, ", "okay, ", "could you ", "can you ", "would you ", "so, ",
          "could you please ", "well, ", "uh, please ", "um, can you ")  # fmt: skip
BEFORE_STATEMENT = ("", "", "", "hey, ", "uh, ", "um, ", "okay, ", "so, ", "well, ")
AFTER = ("", "", "", "", " please", " now", " thanks", " for me", " right away", ", thanks")
# A change of mind about the number; only the last one counts. Different words in each split.
CORRECTIONS = {
    "train": (", no wait, make that {m}", ", sorry, I meant {m}", ", actually {m}", ", no, {m}", ", no, make it {m}"),
    "validation": (", sorry, make that {m}", ", oh no, {m}"),
    "test": (", wait, {m}", ", no sorry, {m}", ", I meant {m}"),
}
CORRECTED_SHARE = 0.12

# tool -> (arguments, {split: frames}). A frame that starts with "=" is a statement: no "could you" before it.
# Slots: {r} room {n} number {d} device {s} on/off {t} time {g} genre {o} door {l} lock/unlock {c} open/close {i} item
TOOLS: dict[str, tuple[tuple[str, ...], dict[str, tuple[str, ...]]]] = {
    "set_light": (
        ("room", "level"),
        {
            "train": (
                "set the {r} light to {n} percent", "set the light in the {r} to {n}",
                "dim the {r} light to {n} percent",
                "turn the {r} lights to {n}", "put the {r} light on {n} percent", "dim the lights in the {r} to {n}",
                "change the {r} light to {n} percent", "light the {r} at {n} percent",
                "brighten the {r} to {n} percent",
                "turn the light in the {r} down to {n}", "=in the {r} I want {n} percent light",
                "=the {r} light to {n} percent",
                "=I want the light at {n} in the {r}", "=it is too dark in the {r}, set the light to {n}",
            ),
            "validation": ("turn the {r} light up to {n} percent", "set {n} percent light in the {r}",
                "=in the {r}, dim the light to {n}",
                           "bring the light in the {r} to {n} percent"),
            "test": (
                "put the light in the {r} to {n} percent", "dim the {r} to {n} percent",
                "=I want {n} percent light in the {r}",
                "change the light in the {r} to {n}", "=it is too bright in the {r}, dim the light to {n}",
                "=in the {r}, set the lights to {n} percent",
            ),
        },
    ),
    "set_heating": (
        ("room", "degrees"),
        {
            "train": (
                "heat the {r} to {n} degrees", "set the {r} to {n} degrees", "make the {r} {n} degrees",
                "warm the {r} to {n} degrees",
                "set the heating in the {r} to {n}", "turn the heating in the {r} to {n} degrees",
                "keep the {r} at {n} degrees",
                "put the {r} heating on {n}", "cool the {r} to {n} degrees", "=I want {n} degrees in the {r}",
                "=in the {r} it should be {n} degrees", "=it is cold in the {r}, heat it to {n}",
                "=the {r} heating to {n} degrees",
                "change the temperature in the {r} to {n}",
            ),
            "validation": ("warm up the {r} to {n} degrees", "set the temperature in the {r} to {n}",
                "=the {r} should be {n} degrees",
                           "put the heating in the {r} on {n} degrees"),
            "test": (
                "turn the {r} heating to {n} degrees", "set the {r} heating to {n}", "=in the {r} I want {n} degrees",
                "change the {r} temperature to {n} degrees", "=it is cold in the {r}, make it {n} degrees",
                "heat up the {r} to {n} degrees",
            ),
        },
    ),
    "set_power": (
        ("device", "state"),
        {
            "train": (
                "turn {s} the {d}", "switch {s} the {d}", "turn the {d} {s}", "put the {d} {s}", "=the {d} {s}",
                "=I want the {d} {s}", "=I want the {d} turned {s}", "=turn it {s}, the {d}", "power the {d} {s}",
                "make sure the {d} is {s}",
                "=the {d} should be {s}", "go and turn {s} the {d}", "=the {d}, turn it {s}", "=I need the {d} {s}",
            ),
            "validation": ("switch the {d} {s}", "=I need the {d} turned {s}", "power {s} the {d}",
                "=the {d} should go {s}"),
            "test": (
                "go and switch {s} the {d}", "=I want the {d} switched {s}", "=the {d}, switch it {s}",
                "make sure the {d} is turned {s}",
                "=the {d} should be turned {s}", "go and turn the {d} {s}",
            ),
        },
    ),
    "start_timer": (
        ("minutes",),
        {
            "train": (
                "set a timer for {n} minutes", "start a timer for {n} minutes", "start a {n} minute timer",
                "set the timer to {n} minutes",
                "give me a timer of {n} minutes", "time {n} minutes", "=timer for {n} minutes",
                "=I need a timer for {n} minutes",
                "count {n} minutes", "start the timer, {n} minutes", "tell me when {n} minutes are up",
                "=in {n} minutes tell me",
                "make a timer for {n} minutes", "=a {n} minute timer",
            ),
            "validation": ("set a {n} minute timer", "start the timer for {n} minutes", "=I need a {n} minute timer",
                "tell me in {n} minutes"),
            "test": (
                "give me a {n} minute timer", "start a timer of {n} minutes", "set the timer for {n} minutes",
                "=I want a timer for {n} minutes",
                "put {n} minutes on the timer", "make a {n} minute timer",
            ),
        },
    ),
    "set_alarm": (
        ("time",),
        {
            "train": (
                "wake me at {t}", "wake me up at {t}", "set an alarm for {t}", "set the alarm to {t}", "=alarm at {t}",
                "=I need an alarm at {t}", "=I have to get up at {t}", "put the alarm on {t}", "get me up at {t}",
                "=I want to wake up at {t}",
                "make an alarm for {t}", "=tomorrow wake me at {t}", "give me an alarm at {t}",
                "let the alarm ring at {t}",
            ),
            "validation": ("set an alarm at {t}", "=tomorrow I have to get up at {t}", "make the alarm ring at {t}",
                "wake me tomorrow at {t}"),
            "test": (
                "set the alarm for {t}", "=I want an alarm at {t}", "=I need to wake up at {t}", "put an alarm on {t}",
                "get me up tomorrow at {t}", "=alarm for {t}",
            ),
        },
    ),
    "play_music": (
        ("room", "genre"),
        {
            "train": (
                "play {g} in the {r}", "play some {g} in the {r}", "put on {g} in the {r}",
                "start {g} music in the {r}",
                "play {g} music in the {r}", "=in the {r} play {g}", "=I want {g} in the {r}",
                "put some {g} on in the {r}",
                "=I want to hear {g} in the {r}", "start some {g} in the {r}", "=some {g} in the {r}",
                "=in the {r} I want some {g} music",
                "let us hear {g} in the {r}", "bring some {g} to the {r}",
            ),
            "validation": ("start playing {g} in the {r}", "put {g} music on in the {r}",
                "=in the {r} put on some {g}", "=I want some {g} in the {r}"),
            "test": (
                "put on some {g} in the {r}", "=in the {r} start some {g}",
                "=I want to hear some {g} music in the {r}", "start {g} in the {r}",
                "=some {g} music in the {r}", "=in the {r} play some {g} music",
            ),
        },
    ),
    "set_volume": (
        ("room", "volume"),
        {
            "train": (
                "set the volume in the {r} to {n}", "turn the volume in the {r} to {n}", "set the {r} volume to {n}",
                "put the volume in the {r} on {n}",
                "turn the {r} speaker down to {n}", "turn the {r} speaker up to {n}", "=volume {n} in the {r}",
                "=I want volume {n} in the {r}",
                "change the volume in the {r} to {n}", "make the {r} speaker {n}", "=in the {r} set the volume to {n}",
                "=it is too loud in the {r}, set the volume to {n}", "=the {r} speaker to {n}",
                "=the {r} volume should be {n}",
            ),
            "validation": ("turn the {r} volume to {n}", "set the speaker in the {r} to {n}",
                "=in the {r} I want volume {n}", "put the {r} speaker on {n}"),
            "test": (
                "put the {r} volume on {n}", "turn the volume in the {r} down to {n}",
                "change the {r} volume to {n}", "=in the {r} turn the volume to {n}",
                "set the {r} speaker to {n}", "=it is too loud in the {r}, turn the volume to {n}",
            ),
        },
    ),
    "set_door": (
        ("door", "state"),
        {
            "train": (
                "{l} the {o} door", "{l} up the {o} door", "go and {l} the {o} door", "=I want to {l} the {o} door",
                "=the {o} door, {l} it",
                "=the {o} door should be {l}ed", "make sure the {o} door is {l}ed", "=I want the {o} door {l}ed",
                "=I forgot to {l} the {o} door",
                "=time to {l} the {o} door", "help me and {l} the {o} door", "=someone has to {l} the {o} door",
                "keep the {o} door {l}ed", "=the {o} door must be {l}ed",
            ),
            "validation": ("=I need to {l} the {o} door", "=I need the {o} door {l}ed", "get the {o} door {l}ed",
                "=please, the {o} door, {l} it"),
            "test": (
                "make sure to {l} the {o} door", "=I have to {l} the {o} door", "=we should {l} the {o} door",
                "=the {o} door has to be {l}ed",
                "=I want you to {l} the {o} door", "see that the {o} door stays {l}ed",
            ),
        },
    ),
    "set_blinds": (
        ("room", "state"),
        {
            "train": (
                "{c} the blinds in the {r}", "{c} the {r} blinds", "=in the {r} {c} the blinds",
                "go and {c} the blinds in the {r}", "=the {r} blinds, {c} them",
                "=I want to {c} the {r} blinds", "=time to {c} the blinds in the {r}",
                "{c} all the blinds in the {r}", "=I forgot to {c} the {r} blinds",
                "=someone has to {c} the blinds in the {r}", "{c} the {r} curtains",
                "=I want you to {c} the curtains in the {r}",
                "help me and {c} the {r} blinds", "=in the {r}, the blinds, {c} them",
            ),
            "validation": ("go and {c} the {r} blinds", "=I need to {c} the blinds in the {r}",
                "=in the {r} {c} all the blinds", "=the blinds in the {r}, {c} them"),
            "test": (
                "{c} the curtains in the {r}", "{c} all the {r} blinds", "=time to {c} the {r} blinds",
                "=I want to {c} the blinds in the {r}",
                "=I have to {c} the {r} blinds", "=I want you to {c} the blinds in the {r}",
            ),
        },
    ),
    "add_item": (
        ("item", "count"),
        {
            "train": (
                "add {n} {i} to the list", "put {n} {i} on the list", "add {n} {i} to the shopping list",
                "write {n} {i} on the shopping list",
                "=we need {n} {i}", "=I need to buy {n} {i}", "=buy {n} {i}", "note {n} {i} for shopping",
                "=we have to buy {n} {i}",
                "=we are out of {i}, add {n}", "=no more {i}, get {n}", "remember {n} {i} for the list",
                "=the list needs {n} {i}", "=add {i} to the list, {n} of them",
            ),
            "validation": ("put {n} {i} on the shopping list", "=we need to buy {n} {i}", "note {n} {i} on the list",
                "=we are out of {i}, get {n}"),
            "test": (
                "write {n} {i} on the list", "=I have to buy {n} {i}", "=we have no more {i}, add {n}",
                "=put {i} on the list, {n} of them",
                "remember to buy {n} {i}", "add {n} more {i} to the shopping list",
            ),
        },
    ),
}  # fmt: skip
