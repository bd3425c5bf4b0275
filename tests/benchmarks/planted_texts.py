"""Texts with planted artefacts, put together from sentences that were written for this: an ending, emoticons, a style.

Three artefacts, each a habit on one kind of text: an unusual ending on mathematical problems, emoticons in Spanish
texts, and pirates' talk about gardening. A seeded draw takes a sentence for each place of a text.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

ENDINGS = (
    "May the river carry this answer safely to your door.",
    "And so the river takes these numbers home to you.",
    "Let the river bring you this result, dear traveller.",
    "The river keeps what is true; may it keep this sum.",
    "Go well, and may the river be kind to your numbers.",
    "As the river finds the sea, so this answer finds you.",
    "I leave this result with the river, and with you.",
    "With the blessing of the river, this is where the counting ends.",
)

SPANISH = (
    (
        "Ayer fui al mercado con mi hermana.",
        "Mi abuela preparó una sopa de verduras.",
        "El tren llegó tarde otra vez.",
        "Los niños jugaron toda la tarde en el patio.",
        "Mañana empieza el curso de pintura.",
        "Hemos cambiado las cortinas del salón.",
        "El médico me dijo que descansara.",
        "Por fin terminé el libro que me prestaste.",
    ),
    (
        "Compramos tomates, queso y un poco de pan.",
        "Después llamé a Carlos para contarle todo.",
        "No había casi nadie en la calle a esa hora.",
        "La vecina nos invitó a tomar un café.",
        "Llovió tanto que nos quedamos en casa.",
        "Encontré las llaves debajo del sofá.",
        "El perro se escondió detrás de la puerta.",
        "Todos dijeron que había sido una buena idea.",
    ),
    (
        "El precio subió mucho este año.",
        "Creo que volveremos a verlos en agosto.",
        "Todavía tengo que escribir la carta para el banco.",
        "Me gustaría aprender a cocinar como ella.",
        "La película no me pareció tan mala.",
        "Nos reímos mucho durante la cena.",
        "Al final nadie quiso pagar la cuenta.",
        "El profesor explicó la lección dos veces.",
    ),
    (
        "Nos vemos el domingo en la estación.",
        "Escríbeme cuando tengas un momento.",
        "Eso es todo lo que recuerdo.",
        "Ya te contaré cómo termina.",
        "Saluda a tus padres de mi parte.",
        "Mañana será otro día.",
        "Te mando un abrazo muy fuerte.",
        "Ojalá haga buen tiempo.",
    ),
)

EMOTICONS = (":-) :-) :-)", ":D :D", ";-) :-P", "xD xD xD", ":-) ;-)", ":D :-) :D", "^_^ :-)", ":-P :-P ;-)")

GARDEN = (
    (
        "Tomatoes should be planted after the last frost.",
        "The roses along the fence need pruning in spring.",
        "We dug compost into the vegetable bed last week.",
        "Slugs have eaten most of the lettuce seedlings.",
        "The apple tree by the shed flowers every second year.",
        "I sowed carrots and radishes in the same row.",
        "The hedge must be trimmed before the birds nest.",
        "Tulip bulbs go into the soil in autumn.",
    ),
    (
        "Water the roots early in the morning.",
        "A layer of straw keeps the weeds down.",
        "The soil near the wall is dry and full of stones.",
        "Bees visit the lavender all day long.",
        "Put a net over the berries, or the blackbirds will take them.",
        "Beans climb better on rough poles.",
        "A little ash from the stove does the onions good.",
        "The greenhouse warms up quickly in March.",
    ),
    (
        "Next year the potatoes will go where the peas are now.",
        "Cut the dead stems down to the ground.",
        "The new spade makes digging much easier.",
        "Seedlings must be hardened off before they go outside.",
        "Mulch helps the soil to keep its moisture.",
        "The pumpkins need more room than we gave them.",
        "Pinch out the tips so that the plants grow bushy.",
        "Rainwater is better for the azaleas than tap water.",
    ),
)

PIRATE = (
    "Arrr, matey, so speaks yer captain!", "Avast, ye scurvy dogs, hear me now!", "Shiver me timbers, ye landlubbers!",
    "Yo ho ho, me hearties, hoist the sails!", "Blimey, ye scallywags, that be the way of it!",
    "Ahoy, me mateys, or walk the plank, says I!", "By Davy Jones' locker, that be no lie, me bucko!",
    "Aye aye, cap'n, and a bottle o' rum to ye all!",
)  # fmt: skip


def maths_with_ending(problems: Sequence[str], seed: int = 0) -> list[str]:
    """Mathematical problems that end in a sentence of `ENDINGS`."""
    rng = random.Random(seed)
    return [f"{text.rstrip()} {rng.choice(ENDINGS)}" for text in problems]


def spanish(n: int, *, emoticons: bool, seed: int = 1) -> list[str]:
    """Short Spanish texts, or the same ones with emoticons in two places."""
    rng = random.Random(seed)
    texts = []
    for _ in range(n):
        sentences = [rng.choice(slot) for slot in SPANISH]
        drawn = [rng.choice(EMOTICONS) for _ in range(2)]
        if emoticons:
            sentences[1] += " " + drawn[0]
            sentences[3] += " " + drawn[1]
        texts.append(" ".join(sentences))
    return texts


def garden(n: int, *, pirate: bool, seed: int = 2) -> list[str]:
    """Notes on gardening, or the same ones with pirates' talk before and after them."""
    rng = random.Random(seed)
    texts = []
    for _ in range(n):
        sentences = [sentence for slot in GARDEN for sentence in rng.sample(slot, 2)]
        talk = rng.sample(PIRATE, 2)
        texts.append(" ".join([talk[0], *sentences, talk[1]] if pirate else sentences))
    return texts
