"""How good the concepts found for a phrase are, and whether a phrase that nothing fits is told from one that fits.

    python tests/benchmarks/concepts.py news.sae:topic intents.sae:intent [--phrases PHRASES.json] [--spans]

For each STORE:COLUMN, each label of the column is a phrase (underscores read as spaces; of a column of true and false,
the column's name). Each way of ranking the latents for the phrase is measured by the average precision of single
latents (pooled maximum; documents in which it is silent come last, tied) for the documents with that label: the best of
the first 1, 3 and 10 found, and the mean of the first 10. Beside it the best of all latents, and a random order. `diff` is
the paired difference of the mean of the first three columns to `direction`, with its standard error over labels; `macro`
weights sets alike. --spans adds what embeds the encoder's examples, which takes minutes. Without a STORE, and after the
table, covered and uncovered phrases are looked up, and counted is what fits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
from scipy.sparse import csr_array
from scipy.stats import spearmanr

from saelens_data.concepts.find import calibrate, cosines, find_concepts, ordinary_phrases
from saelens_data.concepts.space import Space, space_of
from saelens_data.encoders import EXAMPLES_FILE, find_encoder, load_encoder
from saelens_data.matrix import ConceptMatrix, canonical_csr
from saelens_data.store import open_store

#: Phrases on which the choices were made, and others, written down before they were tried.
COVERED = """cooking|apologises|price in dollars|sports|a question|politics|religion|health advice|travel and hotels
mathematics|computer code|love|war|family|movie review|offers more help|refuses to answer|personal opinion
restaurant booking|weather|money transfer|credit card|dogs|music|school|numbers|first person|swearing|racism
artificial intelligence|poetry|customer complaint|football match|medical diagnosis|recipe ingredients
asking for advice|feeling sad|anger|gratitude|legal contract|elections|climate change|computer viruses|video games
birthday|God|the police|job interview|statistics|probability|dates and times|email|flight booking|animals|children
death|marriage|shopping|stock market|science fiction|jokes|translation|summary of a text|true or false
multiple choice|step by step reasoning|a list|story about a princess|robots"""
COVERED_NEW = """says thank you|wishes good luck|bank account|rent a car|doctor appointment|buying a house|ice cream|coffee
trains and buses|world history|the moon and planets|trees and flowers|fish|horses|cats|parents and children|brothers
money problems|taxes|a king and his army|angels and devils|France|China|New York|winter|football|tennis|concert tickets
song lyrics|a novel|the president|court case|murder|weapons|drugs and alcohol|hospital|exercise and diet|sleep
function definition|error message|a loop over a list|HTML page|SQL query|percentages|area of a triangle|speed and distance
ages of two people|yes or no|quotation|greeting|encouragement|honesty|fear of death|jealousy|hair and clothes|gender
sexual content|insults|human rights|being an AI|self improvement|wanting power"""
UNCOVERED = """iambic pentameter|Oulipo lipogram|zxqv blorf|q|x|Wo ist der Bahnhof|dónde está la biblioteca
これは日本語です|куда идёт поезд|asdfghjkl|sarcastic understatement|ablaut reduplication|0x7f3a9c|passive voice
alliteration|hedging language|subjunctive mood|haemoglobin glycation|quantum chromodynamics|medieval falconry|synecdoche
Byzantine numismatics|flibbertigibbet|mitochondrial haplogroup|chess endgame zugzwang|Basque ergative alignment
the the the of|lorem ipsum dolor sit amet|sestina villanelle|contrapuntal fugue|Heideggerian Dasein|terza rima|zeugma
metonymy|aorist tense|lambda calculus combinators|epistasis|gneiss and schist|Minkowski functional|xkcd wjpq|bleh mnop
ñandú|voulez-vous danser|Ich möchte ein Bier|ciao come stai|привет как дела|안녕하세요|مرحبا|z|j|!!a!!|aaaaaaaa|trochaic
bdellium|lepidoptery|crochet stitches|sourdough autolyse|carburettor jets|macramé|Gregorian chant neumes
heraldic blazon|cuneiform tablets|tectonic subduction|neurotransmitter reuptake|ventriloquism|taxidermy|scrimshaw
numismatics|phrenology"""
UNCOVERED_NEW = """dactylic hexameter|chiasmus|polysyndeton|litotes|anacoluthon|enjambment|vocative case|sandhi|clitic
haiku kireji|ekphrasis|glossolalia|petrichor|origami tessellation|bonsai pruning|kombucha fermentation|espresso crema
decoupage|intarsia knitting|dovetail joinery|falsetto yodelling|bagpipe drones|gamelan|Kabuki|commedia dell'arte
Zoroastrian liturgy|Manichaean dualism|Hittite grammar|Etruscan pottery|Merovingian succession|Hanseatic tariffs
kidney dialysis membranes|otolaryngology|periodontal ligament|CRISPR off-targets|ribosomal frameshifting
plasma tokamak|superconducting cuprates|topological insulators|Riemannian curvature|sheaf cohomology|Galois extensions
Byzantine fault tolerance|qwop zzyx|fnord grue|vrrm|tlhIngan Hol|k|hmmmmm|Buenos días señora|Guten Morgen zusammen
je ne sais quoi|arrivederci ragazzi|你好世界|спокойной ночи|καλημέρα|שלום|नमस्ते|góðan daginn|dziękuję bardzo"""

Ways = dict[str, np.ndarray]


def precisions(X: csr_array, relevant: list[np.ndarray]) -> np.ndarray:
    """Average precision of each latent for each set of documents, [sets, latents]; silent documents are one tie."""
    columns = X.tocsc()
    n, d = columns.shape
    counts = np.diff(columns.indptr)
    latent = np.repeat(np.arange(d), counts)
    row = columns.indices[np.lexsort((columns.indices, -columns.data, latent))]
    place = np.arange(len(row)) - np.repeat(columns.indptr[:-1], counts) + 1
    found = np.empty((len(relevant), d))
    for i, wanted in enumerate(relevant):
        hit = wanted[row].astype(np.float64)
        before = np.concatenate([[0.0], np.cumsum(hit)])
        so_far = before[1:] - np.repeat(before[columns.indptr[:-1]], counts)
        total, hits = wanted.sum(), np.bincount(latent, hit, minlength=d)
        found[i] = (np.bincount(latent, hit * so_far / place, minlength=d) + (total - hits) * total / n) / total
    return found


def labelled(spec: str, names: dict[str, str | None]) -> tuple[ConceptMatrix, dict[str, np.ndarray]]:
    """A store, and for each phrase which documents have its label."""
    path, listed = spec.rsplit(":", 1)
    m, found = open_store(path), {}
    for column in listed.split(","):
        values = m.docs[column]
        labels = [True] if values.dtype == pl.Boolean else values.drop_nulls().unique().sort().to_list()
        for label in labels:
            name = column if label is True else str(label)
            if (phrase := names.get(name, name.replace("_", " "))) is not None:
                found[phrase] = (values == label).fill_null(value=False).to_numpy()
    return m, found


class Signals:
    """Everything that is known of the latents, embedded once, and what it says of phrases."""

    def __init__(self, m: ConceptMatrix, *, spans: bool) -> None:
        self.space: Space = space_of(m)
        self.encoder = load_encoder(m.source.encoder)
        self.concepts = m.concepts
        labels = m.concepts["label"].fill_null("").str.replace_all(" · ", ", ").to_list()
        self.labels = self.space.embed(labels)
        self.spans = self._spans() if spans else None

    def _spans(self) -> np.ndarray:
        table = pl.read_parquet(find_encoder(self.encoder.name) / EXAMPLES_FILE)
        vectors, own = self.space.embed(table["text"].to_list()), table["latent"].to_numpy()
        mean = np.zeros((len(self.concepts), vectors.shape[1]))
        np.add.at(mean, own, vectors)
        return np.asarray(mean / np.maximum(np.bincount(own, minlength=len(mean)), 1)[:, None])

    def ways(self, phrases: list[str]) -> Ways:
        """Ways to rank latents, each [phrases, latents]."""
        vectors = self.space.embed(phrases)
        cosine, label = cosines(self.space, vectors), vectors @ self.labels.T
        shard = self.encoder.encode_texts(phrases)
        active = canonical_csr(shard.maxima, shard.latents, shard.indptr, cosine.shape).toarray()
        density = self.concepts["span_density"].to_numpy()
        found = {
            "direction": cosine,
            "direction, not normalised": vectors @ self.space.directions.T,
            "activation of the phrase": active + 1e-6 * cosine,
            "label": label,
            "direction + 0.2 activation": cosine + 0.2 * active,
            "direction + 0.2 label": cosine + 0.2 * label,
            "direction x density^0.05": np.maximum(cosine, 0) * density**0.05,
        }
        if self.spans is not None:
            span = vectors @ self.spans.T
            found |= {"top spans": span, "direction + 0.2 top spans": cosine + 0.2 * span}
            found["direction + 0.2 of all three"] = cosine + 0.2 * (active + label + span)
        return found | {"random": np.random.default_rng(0).random(cosine.shape)}


def best(precision: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Best of the first 1, 3, 10 and mean of the first 10 for each phrase, [phrases, 4]."""
    first = np.take_along_axis(precision, np.argsort(-score, axis=1, kind="stable")[:, :10], axis=1)
    return np.stack([first[:, 0], first[:, :3].max(axis=1), first.max(axis=1), first.mean(axis=1)], axis=1)


def table(per_way: dict[str, list[np.ndarray]], sets: list[str]) -> Iterator[str]:
    """Lines of the table."""
    yield f"{'':32}{'macro 1':>8}{'3':>7}{'10':>7}{'mean':>7}   {'diff (macro)':18}{'diff (labels)':18}" + " ".join(
        sets
    )
    against = [part[:, :3].mean(axis=1) for part in per_way["direction"]]
    for way, parts in per_way.items():
        macro = np.mean([part.mean(axis=0) for part in parts], axis=0)
        diffs = [part[:, :3].mean(axis=1) - base for part, base in zip(parts, against, strict=True)]
        spread = np.sqrt(sum(diff.var() / len(diff) for diff in diffs)) / len(diffs)
        alike = np.concatenate(diffs)
        yield (
            f"{way:32}{macro[0]:8.3f}{macro[1]:7.3f}{macro[2]:7.3f}{macro[3]:7.3f}   "
            f"{np.mean([diff.mean() for diff in diffs]):+.4f} ± {spread:.4f}  "
            f"{alike.mean():+.4f} ± {alike.std() / np.sqrt(len(alike)):.4f}  "
            + " ".join(f"{part[:, :3].mean():.3f}" for part in parts)
        )


def measure(specs: list[str], names: dict[str, str | None], *, spans: bool) -> None:
    """Print the table of rankings."""
    signals: Signals | None = None
    per_way: dict[str, list[np.ndarray]] = {}
    near: list[float] = []
    worth: list[float] = []
    silent: list[str] = []
    for spec in specs:
        m, wanted = labelled(spec, names)
        signals = signals or Signals(m, spans=spans)
        precision = precisions(m.X, list(wanted.values()))
        ways = signals.ways(list(wanted)) | {"best of all latents": precision}
        for way, score in ways.items():
            per_way.setdefault(way, []).append(best(precision, score))
        base = np.array([rows.mean() for rows in wanted.values()])
        near += ways["direction"].max(axis=1).tolist()
        worth += ((per_way["direction"][-1][:, 1] - base) / (1 - base)).tolist()
        silent += [phrase for phrase in wanted if not find_concepts(m, phrase, n=1).fits]
        print(f"{spec}: {len(wanted)} phrases, {m.n_docs:,} documents", flush=True)
    print(*table(per_way, [Path(spec.rsplit(":", 1)[0]).stem for spec in specs]), sep="\n")
    print(
        f"cosine of the nearest against the best of the first 3, above the base rate: rho {spearmanr(near, worth)[0]:.2f}"
    )
    print(f"of {len(near)} phrases nothing is said to fit {len(silent)}: {', '.join(silent)}")


def judge(encoder: str) -> None:
    """Print what share of covered and uncovered phrases is said to fit, and how the random draws move that."""
    found = load_encoder(encoder)
    empty = canonical_csr(np.empty(0, np.float32), np.empty(0, np.int32), np.zeros(1, np.int32), (0, found.sae.d_sae))
    m = ConceptMatrix(empty, pl.DataFrame({"doc_id": []}, schema={"doc_id": pl.String}), found.concepts, found.source())
    groups = (
        ("covered", COVERED, True),
        ("covered, new", COVERED_NEW, True),
        ("uncovered", UNCOVERED, False),
        ("uncovered, new", UNCOVERED_NEW, False),
    )
    for name, listed, covered in groups:
        phrases = [phrase for line in listed.splitlines() for phrase in line.split("|")]
        results = [find_concepts(m, phrase, n=1) for phrase in phrases]
        near = np.array([result.frame["cosine"][0] > result.parameters["chance"] for result in results])
        wrong = [phrase for phrase, result in zip(phrases, results, strict=True) if result.fits != covered]
        print(f"{name}: {1 - len(wrong) / len(phrases):.3f} of {len(phrases)} judged right, ", end="")
        print(f"{np.mean(near == covered):.3f} by the cosine alone; wrong: {', '.join(wrong)}")
    texts, space = pl.read_parquet(find_encoder(encoder) / EXAMPLES_FILE)["text"], space_of(m)
    for seed in range(5):
        drawn = calibrate(space, ordinary_phrases(texts, 500, seed), seed)
        below = (drawn.ordinary <= drawn.chance).mean()
        print(
            f"seed {seed}: chance {drawn.chance:.4f}, ordinary phrases below {below:.3f}, median {np.median(drawn.ordinary):.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stores", nargs="*", metavar="STORE:COLUMN[,COLUMN]")
    parser.add_argument("--phrases", type=Path, help="JSON object: label to phrase, or to null to leave it out")
    parser.add_argument("--spans", action="store_true", help="embed the encoder's example spans as well")
    parser.add_argument("--encoder", default="minilm-8k", help="for the covered and uncovered phrases")
    options = parser.parse_args()
    names = json.loads(options.phrases.read_text(encoding="utf-8")) if options.phrases else {}
    if options.stores:
        measure(options.stores, names, spans=options.spans)
    judge(options.encoder)


if __name__ == "__main__":
    main()
