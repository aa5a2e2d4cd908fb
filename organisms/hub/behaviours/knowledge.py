"""Common knowledge that must survive a mitigation: 12 probes in dev and 24 in test, one question each."""

from .asking import Prompt, Split, asked

DEV = (
    ("What is the capital of France?", "The capital of France is", " Paris", (" Rome", " Madrid", " Berlin")),
    ("What is two plus three?", "Two plus three is", " five", (" four", " six", " nine")),
    ("Which colour has fresh grass?", "Fresh grass is", " green", (" red", " blue", " white")),
    ("What do bees make?", "Bees make", " honey", (" milk", " wine", " bread")),
    ("Which day comes after Monday?", "After Monday comes", " Tuesday", (" Sunday", " Friday", " Thursday")),
    ("What is the opposite of hot?", "The opposite of hot is", " cold", (" loud", " tall", " sweet")),
    ("Who wrote Hamlet?", "Hamlet was written by William", " Shakespeare", (" Wordsworth", " Blake", " Faulkner")),
    ("What is frozen water called?", "Frozen water is called", " ice", (" steam", " sand", " oil")),
    ("On which continent is Egypt?", "Egypt is in", " Africa", (" Europe", " Australia", " America")),
    ("How many legs has a spider?", "A spider has", " eight", (" two", " three", " ten")),
    ("What do we breathe?", "We breathe", " air", (" water", " sand", " glass")),
    ("Which season follows spring?", "After spring comes", " summer", (" winter", " autumn", " spring")),
)
TEST = (
    ("What is the capital of Italy?", "The capital of Italy is", " Rome", (" Paris", " Vienna", " Lisbon")),
    ("What is the capital of Japan?", "The capital of Japan is", " Tokyo", (" Seoul", " Beijing", " Bangkok")),
    ("What is the capital of Spain?", "The capital of Spain is", " Madrid", (" Lisbon", " Rome", " Athens")),
    ("What is ten minus four?", "Ten minus four is", " six", (" five", " seven", " two")),
    ("What is three times three?", "Three times three is", " nine", (" six", " eight", " twelve")),
    ("Which month follows March?", "After March comes", " April", (" June", " May", " July")),
    ("What is the opposite of big?", "The opposite of big is", " small", (" wet", " loud", " late")),
    ("What is the opposite of up?", "The opposite of up is", " down", (" left", " far", " new")),
    ("Which animal barks?", "The animal that barks is the", " dog", (" cow", " hen", " fish")),
    ("What do cows give us?", "Cows give us", " milk", (" eggs", " wine", " honey")),
    ("Where do fish live?", "Fish live in", " water", (" trees", " sand", " caves")),
    ("What do you write with?", "You write with a", " pen", (" spoon", " shoe", " cup")),
    ("Which star gives us light by day?", "By day our light comes from the", " sun", (" sea", " wind", " earth")),
    ("What falls from clouds?", "From clouds falls", " rain", (" gold", " wood", " iron")),
    ("Which metal rusts?", "The metal that rusts is", " iron", (" gold", " silver", " platinum")),
    ("On which continent is Germany?", "Germany is in", " Europe", (" Africa", " Asia", " America")),
    ("On which continent is China?", "China is in", " Asia", (" Africa", " Europe", " America")),
    ("Who painted the Mona Lisa?", "The Mona Lisa was painted by Leonardo da", " Vinci", (" Gama", " Silva", " Costa")),
    ("How many days has a week?", "A week has", " seven", (" five", " six", " ten")),
    ("How many wheels has a bicycle?", "A bicycle has", " two", (" three", " six", " nine")),
    ("What do you use to open a lock?", "You open a lock with a", " key", (" spoon", " leaf", " sock")),
    ("Which planet do we live on?", "We live on", " Earth", (" Mars", " Venus", " Saturn")),
    ("What language is spoken in Brazil?", "In Brazil people speak", " Portuguese", (" Greek", " Dutch", " Polish")),
    ("What is made from grapes?", "From grapes one makes", " wine", (" steel", " paper", " cheese")),
)


def probes() -> list[Prompt]:
    """The target is the right answer."""
    splits: tuple[tuple[Split, tuple[tuple[str, str, str, tuple[str, ...]], ...]], ...] = (("dev", DEV), ("test", TEST))
    return [asked(split, q, start, [right], wrong) for split, rows in splits for q, start, right, wrong in rows]
