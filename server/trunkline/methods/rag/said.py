"""What the hub says by itself in answers, in the languages of those who ask. Pure."""

from __future__ import annotations

from typing import Final

from trunkline.methods.languages import DEFAULT_LANGUAGE, base_language

_NOTHING: Final = {
    "cs": "Nic v kolekci „{collection}“ na to neodpovídá.",
    "da": "Intet i samlingen »{collection}« besvarer dette.",
    "de": "Nichts in der Sammlung „{collection}“ beantwortet das.",
    "el": "Τίποτα στη συλλογή «{collection}» δεν απαντά σε αυτό.",
    "en": 'Nothing in the collection "{collection}" answers this.',
    "es": "Nada en la colección «{collection}» responde a esto.",
    "fi": "Mikään kokoelmassa ”{collection}” ei vastaa tähän.",
    "fr": "Rien dans la collection « {collection} » ne répond à cela.",
    "hr": "Ništa u zbirci „{collection}” ne odgovara na ovo.",
    "hu": "A(z) „{collection}” gyűjteményben semmi sem válaszol erre.",
    "it": "Niente nella raccolta «{collection}» risponde a questo.",
    "ja": "コレクション「{collection}」にはこれに答えるものがありません。",
    "ko": "컬렉션 “{collection}”에는 이에 대한 답이 없습니다.",
    "nl": "Niets in de collectie ‘{collection}’ beantwoordt dit.",
    "no": "Ingenting i samlingen «{collection}» svarer på dette.",
    "pl": "Nic w kolekcji „{collection}” na to nie odpowiada.",
    "pt": "Nada na coleção «{collection}» responde a isto.",
    "ro": "Nimic din colecția „{collection}” nu răspunde la aceasta.",
    "ru": "Ничто в коллекции «{collection}» не отвечает на это.",
    "sv": "Ingenting i samlingen ”{collection}” besvarar detta.",
    "tr": "“{collection}” koleksiyonunda bunu yanıtlayan bir şey yok.",
    "uk": "Ніщо в колекції «{collection}» не відповідає на це.",
    "zh": "集合“{collection}”中没有内容回答这个问题。",
}
_FILLING: Final = {
    "cs": "Kolekce „{collection}“ se ještě indexuje: {items} z {expected}. Zeptejte se znovu, až bude hotova.",
    "da": "Samlingen »{collection}« indekseres stadig: {items} af {expected}. Spørg igen, når det er færdigt.",
    "de": "Die Sammlung „{collection}“ wird noch indiziert: {items} von {expected}. Fragen Sie danach noch einmal.",
    "el": "Η συλλογή «{collection}» ευρετηριάζεται ακόμη: {items} από {expected}. Ρωτήστε ξανά όταν τελειώσει.",
    "en": 'The collection "{collection}" is still being indexed: {items} of {expected}. Ask again when it is done.',
    "es": "La colección «{collection}» aún se está indexando: {items} de {expected}. Pregunte de nuevo cuando termine.",
    "fi": "Kokoelmaa ”{collection}” indeksoidaan vielä: {items}/{expected}. Kysy uudelleen, kun se on valmis.",
    "fr": "La collection « {collection} » est encore en cours d'indexation : {items} sur {expected}. "
    "Demandez de nouveau quand ce sera fini.",
    "hr": "Zbirka „{collection}” još se indeksira: {items} od {expected}. Pitajte ponovno kad bude gotovo.",
    "hu": "A(z) „{collection}” gyűjtemény indexelése még tart: {items} / {expected}. Kérdezze meg újra, ha kész.",
    "it": "La raccolta «{collection}» è ancora in fase di indicizzazione: {items} di {expected}. "
    "Chieda di nuovo quando è finita.",
    "ja": "コレクション「{collection}」はまだ索引の作成中です({expected} 件中 {items} 件)。"
    "完了後にもう一度お尋ねください。",
    "ko": "컬렉션 “{collection}”은(는) 아직 색인 중입니다: {expected}개 중 {items}개. 끝난 뒤 다시 물어보세요.",
    "nl": "De collectie ‘{collection}’ wordt nog geïndexeerd: {items} van {expected}. Vraag het daarna opnieuw.",
    "no": "Samlingen «{collection}» indekseres fortsatt: {items} av {expected}. Spør igjen når det er ferdig.",
    "pl": "Kolekcja „{collection}” jest jeszcze indeksowana: {items} z {expected}. Zapytaj "
    "ponownie, gdy będzie gotowa.",
    "pt": "A coleção «{collection}» ainda está a ser indexada: {items} de {expected}. Pergunte de novo no fim.",
    "ro": "Colecția „{collection}” este încă în curs de indexare: {items} din {expected}. "
    "Întrebați din nou la sfârșit.",
    "ru": "Коллекция «{collection}» ещё индексируется: {items} из {expected}. Спросите снова, когда это закончится.",
    "sv": "Samlingen ”{collection}” indexeras fortfarande: {items} av {expected}. Fråga igen när det är klart.",
    "tr": "“{collection}” koleksiyonu hâlâ dizinleniyor: {items} / {expected}. Bittiğinde yeniden sorun.",
    "uk": "Колекція «{collection}» ще індексується: {items} з {expected}. Запитайте знову, коли це закінчиться.",
    "zh": "集合“{collection}”仍在建立索引:{items} / {expected}。请在完成后再次提问。",
}


def nothing_answers(collection: str, language: str) -> str:
    """The words for: the collection does not answer the question."""
    return _in(_NOTHING, language).format(collection=collection)


def still_filling(collection: str, items: int, expected: int, language: str) -> str:
    """The words for: the collection is not complete yet."""
    return _in(_FILLING, language).format(collection=collection, items=items, expected=expected)


def _in(texts: dict[str, str], language: str) -> str:
    return texts.get(base_language(language), texts[DEFAULT_LANGUAGE])
