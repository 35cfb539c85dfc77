"""The headers that columns usually have, in the languages of those who write them."""

import re
import unicodedata

# fmt: off
PHONE = frozenset({
    "phone", "phones", "phonenumber", "mobile", "cell", "cellphone", "msisdn", "tel", "telephone", "sms", "whatsapp",
    "recipient", "recipientnumber",
    "телефон", "телефона", "телефоны", "тел", "мобильный", "моб", "сотовый", "абонент",
    "telefon", "telefonraqam", "raqam", "raqami", "mobil", "рақам", "рақами",
    "telefono", "movil", "celular", "cellulare", "portable", "telefone", "telemovel",
    "telefonnummer", "rufnummer", "handy", "handynummer", "mobilnummer", "mobiltelefon", "gsm", "cep", "ceptelefonu",
    "هاتف", "الهاتف", "جوال", "الجوال", "موبايل", "手机", "手机号", "手机号码", "电话", "電話", "電話番号", "전화번호",
})
NAME = frozenset({
    "name", "fullname", "contact", "contactname", "customer", "client", "firstname",
    "имя", "фио", "клиент", "контакт", "ism", "ismi", "fio", "fish", "mijoz", "исм", "исми", "мижоз",
    "nombre", "nom", "prenom", "nome", "kunde", "vorname", "ad", "adi", "isim", "adsoyad",
    "اسم", "الاسم", "姓名", "名字", "名前", "이름",
})
EMAIL = frozenset({
    "email", "mail", "emailaddress", "почта", "имейл", "элпочта", "pochta", "correo", "courriel", "mel", "eposta",
    "البريد", "邮箱", "電子郵件",
})
NOTES = frozenset({
    "notes", "note", "comment", "comments", "remark", "remarks", "заметка", "заметки", "примечание", "примечания",
    "комментарий", "izoh", "eslatma", "изоҳ", "notas", "nota", "remarque", "remarques", "notizen", "notiz",
    "bemerkung", "observacoes", "not", "notlar", "ملاحظات", "备注", "備考",
})
# A word for "zone" alone may be a sales region.
ZONE = frozenset({
    "timezone", "tz", "часовойпояс", "vaqtmintaqasi", "вақтминтақаси", "zonahoraria", "fusohorario", "fuseauhoraire",
    "zeitzone", "saatdilimi", "المنطقةالزمنية", "时区",
})
# fmt: on
_WORD = re.compile(r"[^\W_]+")
_BREVE = "\N{COMBINING BREVE}"  # which makes another letter in Cyrillic


def words_of(header: str) -> set[str]:
    """The words of a header, and all of them as one, without case, accents and signs."""
    words = _words(header)
    return {*words, "".join(words)}


def joined(header: str) -> str:
    """The words of a header as one."""
    return "".join(_words(header))


def _words(header: str) -> list[str]:
    apart = unicodedata.normalize(
        "NFKD", header.casefold().replace("-", "").replace("\N{LATIN SMALL LETTER DOTLESS I}", "i")
    )
    bare = "".join(each for each in apart if each == _BREVE or not unicodedata.combining(each))
    return _WORD.findall(unicodedata.normalize("NFC", bare))
