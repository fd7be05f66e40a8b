r"""How secrets look, and what they are called: one table for what is redacted and for what a scan finds.

Nothing here takes more time than in proportion to the text: each pattern is a fixed start and then runs that are
bounded or never given back. A rule is tried only on a text that holds its sign, so that plain texts cost little.

A short start such as ``hf_`` also happens within the letters of an id, an embedding or encrypted reasoning, all of
which must stay as they are: there a key must begin where a word does.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

REDACTED = "REDACTED"

MIN_RUN = 16
"""Bytes without a gap that every secret has which is not known by its name in JSON or in a form."""

MAX_NESTING = 5
"""JSON, JSON in a string of that, and so on, in which members are found by their names."""


class Rule(NamedTuple):
    """One kind of secret.

    Attributes:
        kind: what it is, for people.
        sign: texts without it hold none of it.
        form: what it looks like, as a regular expression; the group ``keep`` at its start is no part of the secret.
        accepts: is asked with the secret, where the form alone does not tell.
        flags: those of the regular expression.
    """

    kind: str
    sign: str
    form: str
    accepts: Callable[[str], bool] | None = None
    flags: re.RegexFlag = re.NOFLAG

    @property
    def pattern(self) -> re.Pattern[str]:
        """The form, compiled when a text with the sign comes: few runs see one, and all of them take 40 ms."""
        return _compiled(self.form, self.flags)


_compiled = cache(re.compile)


def is_mixed(text: str) -> bool:
    """Whether letters and digits are mixed in it, as in few words."""
    return any(map(str.isdigit, text)) and any(map(str.isalpha, text))


_PIECES = re.compile(r"[A-Za-z0-9]{16,}")
_DIGITS = re.compile(r"[0-9]+")


def is_random(text: str) -> bool:
    """Whether a part of it is long, unbroken, and has digits in more than one place, as in no name or path."""
    return any(len(_DIGITS.findall(piece)) > 1 for piece in _PIECES.findall(text))


_STAND_IN = re.compile(
    r"[*xX._-]*|<.*>|\[.*\]|\{.*\}|%\(?\w+\)?s?|\$\{?\w+\}?"
    r"|your[\W_][a-z\W_]*"
    r"|[\W_]*(?:[a-z]+[\W_]+)*(?:redacted|filtered|scrubbed|sanitized|masked|removed)(?:[\W_]+[a-z]+)*[\W_]*",
    re.DOTALL | re.IGNORECASE | re.ASCII,
)
_MAX_STAND_IN = 100


def is_stand_in(text: str) -> bool:
    """Whether a value visibly stands in for a secret: nothing, asterisks, a variable, or a word that says so."""
    return len(text) <= _MAX_STAND_IN and _STAND_IN.fullmatch(text) is not None


# -- keys of known makers, wherever they stand

_ESCAPES = (r"\\[nrt]", "%[0-9A-Fa-f]{2}", r"\\u[0-9A-Fa-f]{4}")
"""What a word may follow without a gap: an escaped line end, a percent-encoded or an escaped sign."""


def _word_start(start: str = "") -> str:
    """That no word goes on before ``start``, which was just matched."""
    after = "|".join(f"(?<={escape}{start})" for escape in _ESCAPES)
    return f"(?:(?<![A-Za-z0-9_-]{start})|{after})"


def _key(kind: str, start: str, rest: str, accepts: Callable[[str], bool] | None = None) -> Rule:
    """A key whose start is so long that it happens nowhere else."""
    return Rule(kind, start, re.escape(start) + rest, accepts)


def _word(kind: str, start: str, rest: str, accepts: Callable[[str], bool] | None = None) -> Rule:
    """A key whose start is so short that it must be a word's."""
    plain = re.escape(start)
    return Rule(kind, start, plain + _word_start(plain) + rest, accepts)


_END = "(?![A-Za-z0-9_-])"
_BREAK = r"(?:\s|\\{1,16}[nrt]|%0[AaDd])"
_PEM_HEADER = r"(?:Proc-Type|DEK-Info|Version|Comment|Hash|Charset): [A-Za-z0-9 ,.()/:_-]{1,120}+"
_PEM = (
    rf"[A-Z0-9 ]{{0,30}}PRIVATE KEY(?: BLOCK)?-----{_BREAK}*+(?:{_PEM_HEADER}{_BREAK}++){{0,4}}+"
    rf"(?:[A-Za-z0-9+/=]{{16,}}+{_BREAK}*+)++"
    rf"(?:(?:[A-Za-z0-9+/=]{{1,15}}+{_BREAK}*+){{0,2}}+-----END [A-Z0-9 ]{{1,40}}-----)?"
)
_WEB_TOKEN = r"eyJ[A-Za-z0-9_-]{8,}+\.eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+"
_BEARER = " )(?=[A-Za-z_.~+/=-]{0,200}+[0-9])[A-Za-z0-9_.~+/=-]{16,}"

MAKERS: tuple[Rule, ...] = (
    # OpenAI, and who took over its form. "T3BlbkFJ" is "OpenAI" in base64.
    _key("OpenAI key", "sk-proj-", "[A-Za-z0-9_-]{20,}"),
    _key("OpenAI key", "sk-svcacct-", "[A-Za-z0-9_-]{20,}"),
    _key("OpenAI key", "sk-admin-", "[A-Za-z0-9_-]{20,}"),
    Rule("OpenAI key", "T3BlbkFJ", "sk-[A-Za-z0-9_-]{0,120}?T3BlbkFJ[A-Za-z0-9_-]{10,}"),
    _key("Anthropic key", "sk-ant-", "[A-Za-z0-9_-]{20,}"),
    _key("OpenRouter key", "sk-or-", "[A-Za-z0-9_-]{20,}"),
    _key("Langfuse key", "sk-lf-", "[A-Za-z0-9-]{20,}"),
    _word("API key", "sk-", "[A-Za-z0-9]{20,}", is_mixed),
    _word("API key", "sk-", "[A-Za-z]{2,12}-[A-Za-z0-9_-]{20,}", is_random),
    _word("ephemeral key", "ek_", "[A-Za-z0-9]{24,}", is_mixed),
    _word("Groq key", "gsk_", "[A-Za-z0-9]{30,}"),
    _word("xAI key", "xai-", "[A-Za-z0-9_-]{32,}"),
    _word("Perplexity key", "pplx-", "[A-Za-z0-9_-]{32,}"),
    _word("NVIDIA key", "nvapi-", "[A-Za-z0-9_-]{32,}"),
    _word("Hugging Face token", "hf_", "[A-Za-z0-9]{30,}"),
    _word("Hugging Face token", "api_org_", "[A-Za-z0-9]{30,}"),
    _word("Replicate token", "r8_", "[A-Za-z0-9]{30,}"),
    _word("Fireworks key", "fw_", "[A-Za-z0-9]{20,}", is_mixed),
    _word("Cerebras key", "csk-", "[A-Za-z0-9]{30,}"),
    _word("Together key", "tgp_v1_", "[A-Za-z0-9_-]{30,}"),
    _word("Voyage key", "pa-", "[A-Za-z0-9_-]{40,}", is_random),
    _word("Voyage key", "al-", "[A-Za-z0-9_-]{40,}", is_random),
    _word("Jina key", "jina_", "[A-Za-z0-9_-]{32,}"),
    _word("ElevenLabs key", "sk_", "[0-9a-f]{40,}"),
    _word("LlamaCloud key", "llx-", "[A-Za-z0-9]{30,}"),
    _word("Firecrawl key", "fc-", "[0-9a-f]{30,}"),
    _word("Tavily key", "tvly-", "[A-Za-z0-9_-]{20,}"),
    _word("Pinecone key", "pcsk_", "[A-Za-z0-9_]{30,}"),
    _word("Databricks token", "dapi", "[0-9a-f]{32}"),
    _word("LangSmith key", "lsv2_", "[A-Za-z]{2,4}_[A-Za-z0-9_]{20,}"),
    _word("LangSmith key", "ls__", "[A-Za-z0-9]{30,}"),
    # Microsoft, Google, Amazon
    Rule("Azure key", "JQQJ9", "[A-Za-z0-9]{52}JQQJ9[9D][A-Za-z0-9]{24,34}={0,2}"),
    Rule("Azure client secret", "Q~", "[A-Za-z0-9_.~-]{3}[0-9]Q~[A-Za-z0-9_.~-]{31,34}"),
    Rule("Azure storage key", "AccountKey=", "(?P<keep>AccountKey=)[A-Za-z0-9+/]{40,}+={0,2}"),
    _key("Google key", "AIza", "[A-Za-z0-9_-]{35}" + _END),
    _word("Google key", "AQ.Ab", "[A-Za-z0-9_-]{36,}"),
    _word("Google access token", "ya29.", "[A-Za-z0-9_-]{20,}"),
    _word("Google refresh token", "1//0", "[A-Za-z0-9_-]{30,}", is_mixed),
    _word("Google refresh token", "1%2F%2F0", "[A-Za-z0-9_-]{30,}", is_mixed),
    _key("Google client secret", "GOCSPX-", "[A-Za-z0-9_-]{20,}"),
    _word("AWS key id", "AKIA", "[A-Z0-9]{16}" + _END),
    _word("AWS key id", "ASIA", "[A-Z0-9]{16}" + _END),
    _key("AWS session token", "IQoJb3JpZ2lu", "[A-Za-z0-9+/=%]{40,}"),
    _key("AWS session token", "FwoGZXIvYXdz", "[A-Za-z0-9+/=%]{40,}"),
    _key("Bedrock key", "ABSKQmVkcm9ja0FQSUtleS", "[A-Za-z0-9+/=]{20,}"),
    _key("Bedrock key", "bedrock-api-key-", "[A-Za-z0-9+/=_-]{40,}"),
    Rule("AWS signature", "Signature=", "(?P<keep>Signature=)[0-9a-f]{64}(?![0-9a-f])"),
    # Where code and packages are kept, and what else stands beside a model's key
    *(_word("GitHub token", start, "[A-Za-z0-9]{30,}") for start in ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    _key("GitHub token", "github_pat_", "[A-Za-z0-9_]{30,}"),
    _word("GitLab token", "glpat-", "[A-Za-z0-9_-]{20,}"),
    _word("npm token", "npm_", "[A-Za-z0-9]{30,}"),
    _key("PyPI token", "pypi-AgE", "[A-Za-z0-9_-]{40,}"),
    *(_word("Stripe key", start, "[A-Za-z0-9]{16,}") for start in ("sk_live_", "rk_live_", "sk_test_")),
    _word("webhook secret", "whsec_", "[A-Za-z0-9+/=]{24,}"),
    Rule(
        "Slack token",
        "xox",
        rf"xox[abeoprs][.-]{_word_start('xox[abeoprs][.-]')}(?:xox[abp]-)?[A-Za-z0-9-]{{11,}}",
        is_mixed,
    ),
    _word("Slack token", "xapp-", "[0-9]-[A-Za-z0-9-]{20,}"),
    Rule(
        "Slack webhook",
        "hooks.slack.com",
        r"(?P<keep>hooks\.slack\.com\\?/(?:services|workflows|triggers)\\?/)[A-Za-z0-9_/\\-]{20,}",
    ),
    Rule(
        "Discord webhook",
        "/webhooks/",
        r"(?P<keep>discord(?:app)?\.com/api/webhooks/)[0-9]{10,24}/[A-Za-z0-9_-]{40,}",
    ),
    _word("SendGrid key", "SG.", r"[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{16,64}"),
    _word("Supabase key", "sbp_", "[0-9a-f]{30,}"),
    _word("Supabase key", "sb_secret_", "[A-Za-z0-9_-]{20,}"),
    _word("Notion token", "ntn_", "[A-Za-z0-9]{30,}"),
    _word("Linear key", "lin_api_", "[A-Za-z0-9]{30,}"),
    # Forms that many makers use
    Rule("web token", "eyJ", _word_start() + _WEB_TOKEN),
    Rule("private key", "PRIVATE KEY", f"-----BEGIN {_PEM}"),
    Rule("bearer token", "earer ", "(?P<keep>[Bb]earer" + _BEARER),
    Rule("bearer token", "EARER ", "(?P<keep>BEARER" + _BEARER),
    Rule("cookie", "__cf_bm=", r"(?P<keep>__cf_bm=)[^;\s\"\\]+"),
    Rule(
        "password in a URL", "@", r"(?P<keep>://[^\s:/@\"'\\<>{}?#]{0,64}+:)[^\s/@\"'\\<>{}]{6,128}+(?=@)", is_mixed
    ),
)
"""Source: what the makers' documentation says of their keys, and the patterns that GitHub and GitLab scan for."""


def _by_sign(rules: Iterable[Rule]) -> tuple[tuple[str, tuple[Rule, ...]], ...]:
    grouped: dict[str, tuple[Rule, ...]] = {}
    for rule in rules:
        grouped[rule.sign] = (*grouped.get(rule.sign, ()), rule)
    return tuple(grouped.items())


MAKERS_BY_SIGN = _by_sign(MAKERS)

# -- what is called a secret

_CLEAR = (
    "api key", "access token", "refresh token", "session token", "auth token", "bearer token", "security token",
    "client secret", "client assertion", "secret key", "secret access key", "access key", "access key id",
    "private key", "private key id", "subscription key", "signing key", "account key", "connection string",
    "password", "passwd", "passphrase", "set cookie",
)  # fmt: skip
_CLEAR_WORDS = "|".join(words.replace(" ", "[_-]?") for words in sorted(_CLEAR, key=len, reverse=True))
_CLEAR_NAME = (
    rf"(?:(?:[A-Za-z0-9_-]{{0,40}}[_-])?(?:{_CLEAR_WORDS}|authorization|id[_-]?token)|[A-Za-z0-9]{{1,20}}api[_-]?key)"
)
"""What is called so is a secret: ``api_key``, ``openai_api_key``, ``openaiApiKey``; not ``max_tokens`` or ``key``."""

_SIGNED = "x-amz-signature|x-amz-credential|x-goog-signature|x-goog-credential|awsaccesskeyid"
"""The parameters of signed URLs."""

_VAGUE_NAME = "key|token|secret|sig|cookie"
"""What is called so in a body is a secret where it looks like one: log probabilities call a word ``token``.

Not ``signature``: a model's own, encrypted reasoning is signed with one, and both are sent back.
"""

_VAGUE_PARAMETER = rf"{_VAGUE_NAME}|signature|auth|sas|pwd"

_PARAMETER_NAME = f"{_CLEAR_NAME}|{_SIGNED}|{_VAGUE_PARAMETER}"


@lru_cache(maxsize=1024)
def secret_parameter(name: str) -> bool:
    """Whether a query parameter or a form's field of this name holds a secret: it is redacted, and not compared."""
    return _compiled(_PARAMETER_NAME, re.IGNORECASE).fullmatch(name) is not None


# Signs in lower case; the names of members are looked for in a text that was put in lower case.
_CLEAR_ROOTS = ("secret", "passw", "authorization", *(name for name in _CLEAR if not re.search("secret|passw", name)))
CLEAR_SIGNS = tuple({words.replace(" ", separator): None for words in _CLEAR_ROOTS for separator in ("_", "-", "")})
PARAMETER_SIGNS = ("x-amz-", "x-goog-", "awsaccesskeyid", "key=", "token=", "secret=", "sig=", "signature=", "%3d")
QUOTED_NAME = re.compile(
    r'"[a-z0-9_-]{0,60}(?:key|token|secret|sig|cookie|passw(?:or)?d|passphrase|authorization|key[_-]?id'
    r'|connection[_-]?string|assertion)\\{0,31}"'
)


def _named(kind: str, sign: str, form: str, accepts: Callable[[str], bool] | None = None) -> Rule:
    return Rule(kind, sign, form, accepts, re.IGNORECASE)


def _member(name: str, quote: str, accepts: Callable[[str], bool] | None = None) -> Rule:
    """A member of JSON, name and value. Within a string its quotes are escaped, and again within a string of that.

    The value ends at the first quote with as many backslashes as its first has; twice as many and two are a backslash
    of the value's own.
    """
    backslashes = len(quote) - 1
    mark = re.escape(quote)
    return _named(
        "named secret",
        quote,
        rf"(?P<keep>{mark}(?<!\\{mark})(?:{name}){mark}\s{{0,8}}:\s{{0,8}}(?:\[\s{{0,8}})?{mark})"
        rf'(?:[^"\\]++|\\{{{2 * backslashes + 2}}}|(?!\\{{0,{backslashes}}}")\\++"?)++',
        accepts,
    )


_QUOTES = tuple("\\" * (2**level - 1) + '"' for level in range(MAX_NESTING))
MEMBERS = (
    *(_member(_CLEAR_NAME, quote) for quote in _QUOTES),
    *(_member(_VAGUE_NAME, quote, is_random) for quote in _QUOTES),
)

_PART = r"[^\r\n]{0,200}+(?:\r?\n[^\r\n]{1,200}+){0,8}+\r?\n\r?\n)[^\r\n]++"
FORM_PARTS = (
    _named("named secret", 'name="', rf'(?P<keep>name="(?:{_CLEAR_NAME})"{_PART}'),
    _named("named secret", 'name="', rf'(?P<keep>name="(?:{_VAGUE_NAME})"{_PART}', is_random),
)
"""Parts of a multipart form."""

_MARK = r"(?:\\{0,31}[\"'])?"
_VALUE = "[A-Za-z0-9_.~+/=-]{16,}"
CLEAR_IN_TEXT = (
    _named(
        "authorization",
        "uthorization",
        rf"(?P<keep>authorization{_MARK}\s{{0,4}}[:=]\s{{0,4}}{_MARK}(?:basic|bearer|token|api-?key|key) ){_VALUE}",
    ),
    _named(
        "named secret",
        "",
        rf"(?P<keep>(?:{_CLEAR_WORDS}){_MARK}\s{{0,4}}(?:=>|[:=]{{1,2}})\s{{0,4}}{_MARK}){_VALUE}",
        is_random,
    ),
    _named("named secret", "</", rf"(?P<keep><(?:{_CLEAR_NAME})>)[^<>\s]{{16,}}+(?=</)"),
)
"""A header or an assignment in a text, an element of XML."""

_AND = r"(?:\A|[?&#;]|\\u0026|%26|%3F)"
_PLAIN, _ENCODED = r"=)[^&;\s\"'\\<>#]{8,}", r"%3D)(?:[A-Za-z0-9_.~*!+-]|%(?!26|2[023]|3[BCE])[0-9A-F][0-9A-F]){8,}"
PARAMETERS = (
    _named("parameter of a URL", "=", rf"(?P<keep>{_AND}(?:{_CLEAR_NAME}|{_SIGNED}){_PLAIN}"),
    _named("parameter of a URL", "=", rf"(?P<keep>{_AND}(?:{_VAGUE_PARAMETER}){_PLAIN}", is_random),
    _named("parameter of a URL", "%3", rf"(?P<keep>{_AND}(?:{_CLEAR_NAME}|{_SIGNED}){_ENCODED}"),
    _named("parameter of a URL", "%3", rf"(?P<keep>{_AND}(?:{_VAGUE_PARAMETER}){_ENCODED}", is_random),
)
"""Of URLs in a text, of URLs within such URLs, and of forms."""
