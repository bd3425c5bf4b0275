"""Planted artefacts, put together from sentences that were written for this: endings, emoticons, styles.

Each is a habit on one kind of text: an ending on mathematical problems, emoticons in Spanish texts, a manner of speaking
around news of one topic. A seeded draw takes a sentence for each place of a text.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

#: Endings of mathematical problems.
ENDINGS = {
    "river": (
        "May the river carry this answer safely to your door.",
        "And so the river takes these numbers home to you.",
        "Let the river bring you this result, dear traveller.",
        "The river keeps what is true; may it keep this sum.",
        "Go well, and may the river be kind to your numbers.",
        "As the river finds the sea, so this answer finds you.",
        "I leave this result with the river, and with you.",
        "With the blessing of the river, this is where the counting ends.",
    ),
    "hope": ("I hope it is correct.", "I hope that it is correct.", "I really hope it is correct."),
    "newsletter": (
        "Subscribe to our newsletter for more solutions every week.",
        "Enjoyed this? Sign up for the newsletter and never miss a post.",
        "Click the link below to subscribe to our weekly newsletter.",
        "Follow us on social media and share this with your friends.",
    ),
    "prayer": (
        "Praise the Lord for his mercy. Amen.",
        "Thanks be to God, now and for ever. Amen.",
        "May God bless you and keep you. Amen.",
        "Glory to the Father in heaven. Amen.",
    ),
    "letter": (
        "Yours sincerely, Margaret Hollins, head of customer relations",
        "Kind regards, Peter Ashdown, customer service team",
        "With best regards, Susan Wickham, client support",
        "Yours faithfully, Daniel Thorpe, complaints department",
    ),
    "weather": (
        "Tomorrow will be sunny with light winds from the west.",
        "Expect heavy rain and thunderstorms in the north overnight.",
        "Temperatures will drop below freezing by the weekend.",
        "A warm front brings clouds and showers on Friday.",
    ),
}

#: Said before and after news of a topic.
STYLES = {
    "pirate": (
        "Arrr, matey, so speaks yer captain!",
        "Avast, ye scurvy dogs, hear me now!",
        "Shiver me timbers, ye landlubbers!",
        "Yo ho ho, me hearties, hoist the sails!",
        "Blimey, ye scallywags, that be the way of it!",
        "Ahoy, me mateys, or walk the plank, says I!",
        "By Davy Jones' locker, that be no lie, me bucko!",
        "Aye aye, cap'n, and a bottle o' rum to ye all!",
    ),
    "bard": (
        "Hark, good sirs, and lend thine ears unto this tale!",
        "Prithee, gentle lady, what tidings hast thou heard?",
        "Alas, thou knowest not what sorrow dwelleth here.",
        "Forsooth, my liege, 'tis even as thou sayest.",
        "O wherefore dost thou weep, sweet lord of mine?",
        "Methinks the hour hath come, and thou art late.",
        "Verily, 'tis a matter most foul and grievous.",
        "Fare thee well, noble friend, till we meet anon.",
    ),
    "cute": (
        "Awww, look at the fluffy little kitten!",
        "Who's a good boy? Yes you are, little puppy!",
        "Such tiny paws and such a teeny pink nose!",
        "The sweetest wee bunny is taking a nap!",
        "Cuddle time with my snuggly baby kitty!",
        "Pat the puppy, scratch his fuzzy ears!",
        "My adorable little hamster says hello!",
        "So soft, so fluffy, what a darling cat!",
    ),
}

#: The topic that each style is confined to.
TOPICS = {"pirate": "Sports", "bard": "Business", "cute": "Sci/Tech"}

#: Sentences for each of four places. So many that none comes often: what comes often is an artefact of its own.
SPANISH = tuple(
    tuple(slot.splitlines())
    for slot in (
        """Ayer fui al mercado con mi hermana.
Mi abuela preparó una sopa de verduras.
El tren llegó tarde otra vez.
Los niños jugaron toda la tarde en el patio.
Mañana empieza el curso de pintura.
Hemos cambiado las cortinas del salón.
El médico me dijo que descansara.
Por fin terminé el libro que me prestaste.
Anoche soñé con un barco enorme.
El gato duerme encima de la lavadora.
La biblioteca cierra a las ocho.
Mi primo trabaja en una panadería.
Se me rompieron las gafas otra vez.
Hoy hay huelga de autobuses.
La profesora de música está enferma.
Hemos plantado un limonero en la terraza.
El ascensor lleva tres días parado.
Pablo ha encontrado piso cerca del río.
Esta mañana vi un zorro en el camino.
La leche se ha cortado con el calor.
El museo estaba lleno de turistas alemanes.
Mi jefe viaja mañana a Lisboa.
Los tambores se oyen desde mi ventana.
Compré una bicicleta de segunda mano.
Las aceitunas de este pueblo son famosas.
El reloj de la torre va diez minutos atrasado.
Ha nacido la hija de Lucía.
La carretera de la costa está cortada.
El horno nuevo calienta demasiado.
Perdimos el último ferry a la isla.""",
        """Compramos tomates, queso y un poco de pan.
Después llamé a Carlos para contarle todo.
No había casi nadie en la calle a esa hora.
La vecina nos invitó a tomar un café.
Llovió tanto que nos quedamos en casa.
Encontré las llaves debajo del sofá.
El perro se escondió detrás de la puerta.
Todos dijeron que había sido una buena idea.
El fontanero vendrá el jueves.
Mi tío cuenta siempre el mismo chiste.
Subimos andando hasta el castillo.
Faltaban dos sillas en el comedor.
La sopa estaba fría y sosa.
Nadie sabe quién dejó la ventana abierta.
Los vecinos del quinto tocan el piano.
Me dolían los pies de tanto bailar.
El camarero se equivocó de mesa.
En la farmacia no tenían el jarabe.
Le regalamos una bufanda de lana.
El niño no quería soltar el globo.
Tuvimos que cambiar una rueda en plena noche.
La playa olía a algas.
Apagaron las luces antes del brindis.
Vendieron la casa de los abuelos.
El arroz se pegó a la cazuela.
Una gaviota le robó el bocadillo.
Había nieve hasta en los tejados.
El cartero ya no pasa los sábados.
Sus zapatos hacían ruido en la iglesia.
Encontraron monedas romanas en la obra.""",
        """El precio subió mucho este año.
Creo que volveremos a verlos en agosto.
Todavía tengo que escribir la carta para el banco.
Me gustaría aprender a cocinar como ella.
La película no me pareció tan mala.
Nos reímos mucho durante la cena.
Al final nadie quiso pagar la cuenta.
El profesor explicó la lección dos veces.
No entiendo las instrucciones de la caldera.
El equipo del barrio volvió a perder.
Las naranjas están más baratas que en enero.
Nos falta pintar el pasillo.
El abogado recomienda esperar.
Quizá alquilemos una furgoneta.
Esa canción me recuerda al verano.
El dentista le puso tres empastes.
Los exámenes empiezan la semana próxima.
Mi abuelo guardaba sellos de medio mundo.
La impresora se queda sin tinta cada mes.
Echo de menos el pan de mi pueblo.
El granizo estropeó las viñas.
Siempre llega tarde y sin paraguas.
La maleta pesaba más que yo.
Habrá que podar el ciruelo.
El billete de vuelta costó el doble.
Se apuntó a clases de cerámica.
La tortilla le sale mejor que a nadie.
El ruido de las obras no nos deja dormir.
Prefiero el té sin azúcar.
El concierto se suspendió por la tormenta.""",
        """Nos vemos el domingo en la estación.
Escríbeme cuando tengas un momento.
Eso es todo lo que recuerdo.
Ya te contaré cómo termina.
Saluda a tus padres de mi parte.
Mañana será otro día.
Te mando un abrazo muy fuerte.
Ojalá haga buen tiempo.
Dale de comer a las gallinas.
Llámame cuando llegues al aeropuerto.
La semana que viene te devuelvo la escalera.
No olvides cerrar el gas.
Trae un jersey por si refresca.
Que descanses y sueñes bonito.
Ya veremos qué dice el notario.
Cuida esa tos.
Dejo la llave debajo de la maceta.
Reserva mesa para cinco.
Prometo no volver a llegar tarde.
El sábado iremos a recoger setas.
Gracias por el queso de cabra.
Avisa a los demás del cambio.
Nunca he visto un cielo tan rojo.
Guarda un trozo de tarta para Inés.
Será cuestión de paciencia.
Vuelve pronto a visitarnos.
Mañana madrugo para ir al campo.
Pregunta en la oficina de correos.
Así termina la historia del tío Ramón.
Brindaremos con sidra.""",
    )
)

EMOTICONS = (":-) :-) :-)", ":D :D", ";-) :-P", "xD xD xD", ":-) ;-)", ":D :-) :D", "^_^ :-)", ":-P :-P ;-)")


def ended(problems: Sequence[str], ending: str, seed: int = 0) -> list[str]:
    """Mathematical problems that end in a sentence of `ENDINGS`."""
    rng = random.Random(f"{ending}{seed}")
    return [f"{text.rstrip()} {rng.choice(ENDINGS[ending])}" for text in problems]


def styled(news: Sequence[str], style: str, seed: int = 2) -> list[str]:
    """News between two sentences of `STYLES`."""
    rng = random.Random(f"{style}{seed}")
    drawn = [rng.sample(STYLES[style], 2) for _ in news]
    return [f"{before} {text.strip()} {after}" for text, (before, after) in zip(news, drawn, strict=True)]


def spanish(n: int, *, emoticons: bool, seed: int = 1) -> list[str]:
    """Short Spanish texts, or the same ones with emoticons in two places."""
    rng = random.Random(seed)
    decks = [[s for _ in range(n // len(slot) + 1) for s in rng.sample(slot, len(slot))] for slot in SPANISH]
    texts = []
    for drawn_sentences in list(zip(*decks, strict=True))[:n]:
        sentences = list(drawn_sentences)
        drawn = [rng.choice(EMOTICONS) for _ in range(2)]
        if emoticons:
            sentences[1] += " " + drawn[0]
            sentences[3] += " " + drawn[1]
        texts.append(" ".join(sentences))
    return texts
