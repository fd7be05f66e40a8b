"""Fake secrets of every maker, made here from letters that no maker gave out, and places to plant them in."""

from __future__ import annotations

import base64
import json
import random
import string

_DRAW = random.Random(20260101)
ALNUM = string.ascii_letters + string.digits


def draw(count, alphabet=ALNUM):
    """Random letters with digits in several places, as keys have them."""
    while True:
        text = "".join(_DRAW.choice(alphabet) for _ in range(count))
        if sum(map(str.isdigit, text)) >= count // 10 + 2 and any(map(str.isalpha, text)):
            return text


def hexes(count):
    return draw(count, "0123456789abcdef")


def url_safe(count):
    return draw(count, ALNUM + "-_")


def _web_token():
    parts = ({"alg": "HS256", "typ": "JWT"}, {"sub": draw(12), "exp": 1790000000})
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*encoded, url_safe(43)])


def _pem(kind="", header=""):
    lines = "\n".join([draw(64, ALNUM + "+/") for _ in range(12)] + [draw(40) + "=="])
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{header}{lines}\n-----END {kind}PRIVATE KEY-----"


SHAPED = {
    "openai project": "sk-proj-" + url_safe(74) + "T3BlbkFJ" + url_safe(74),
    "openai project without its mark": "sk-proj-" + url_safe(48),
    "openai service": "sk-svcacct-" + url_safe(74),
    "openai admin": "sk-admin-" + url_safe(74),
    "openai old": "sk-" + draw(20) + "T3BlbkFJ" + draw(20),
    "anthropic": "sk-ant-api03-" + url_safe(93) + "AA",
    "anthropic admin": "sk-ant-admin01-" + url_safe(93) + "AA",
    "openrouter": "sk-or-v1-" + hexes(64),
    "deepseek": "sk-" + hexes(32),
    "langfuse": "sk-lf-" + "-".join(map(hexes, (8, 4, 4, 4, 12))),
    "other makers": "sk-kimi-" + draw(48),
    "azure openai": draw(52) + "JQQJ99" + "BCAC" + draw(24),
    "azure client": draw(3) + "8Q~" + draw(34),
    "google": "AIza" + draw(35),
    "google oauth": "ya29." + url_safe(120),
    "google refresh": "1//0" + url_safe(60),
    "google client": "GOCSPX-" + draw(28),
    "groq": "gsk_" + draw(52),
    "hugging face": "hf_" + draw(34),
    "replicate": "r8_" + draw(37),
    "xai": "xai-" + draw(80),
    "perplexity": "pplx-" + draw(48),
    "nvidia": "nvapi-" + url_safe(64),
    "fireworks": "fw_" + draw(22),
    "cerebras": "csk-" + draw(48, string.ascii_lowercase + string.digits),
    "together": "tgp_v1_" + draw(43),
    "voyage": "pa-" + draw(43),
    "jina": "jina_" + draw(60),
    "elevenlabs": "sk_" + hexes(48),
    "llamacloud": "llx-" + draw(48),
    "firecrawl": "fc-" + hexes(32),
    "tavily": "tvly-dev-" + draw(32),
    "pinecone": "pcsk_" + draw(6) + "_" + draw(60),
    "databricks": "dapi" + hexes(32),
    "langsmith": "lsv2_pt_" + hexes(32) + "_" + hexes(10),
    "langsmith old": "ls__" + hexes(32),
    "aws key id": "AKIA" + draw(16, string.ascii_uppercase + "234567"),
    "aws temporary key id": "ASIA" + draw(16, string.ascii_uppercase + "234567"),
    "aws session": "IQoJb3JpZ2lu" + draw(300, ALNUM + "+/") + "==",
    "bedrock": "ABSKQmVkcm9ja0FQSUtleS" + draw(100) + "=",
    "github": "ghp_" + draw(36),
    "github server": "ghs_" + draw(36),
    "github fine": "github_pat_" + draw(22) + "_" + draw(59),
    "gitlab": "glpat-" + url_safe(20),
    "npm": "npm_" + draw(36),
    "pypi": "pypi-AgEIcHlwaS5vcmc" + url_safe(120),
    "stripe": "sk_live_" + draw(24),
    "stripe webhook": "whsec_" + draw(32),
    "slack bot": "xoxb-" + "170012345678-170087654321-" + draw(24),
    "slack app": "xapp-1-" + draw(11) + "-1700123456789-" + hexes(64),
    "sendgrid": "SG." + url_safe(22) + "." + url_safe(43),
    "supabase": "sbp_" + hexes(40),
    "notion": "ntn_" + draw(46),
    "web token": _web_token(),
}  # fmt: skip
"""Known by what they look like."""

KEPT = {
    "bearer": ("Bearer ", url_safe(40)),
    "slack webhook": ("https://hooks.slack.com/services/", "T" + draw(8) + "/B" + draw(8) + "/" + draw(24)),
    "discord webhook": ("https://discord.com/api/webhooks/", "112233445566778899/" + url_safe(68)),
    "azure storage": ("DefaultEndpointsProtocol=https;AccountName=me;AccountKey=", draw(86, ALNUM + "+/") + "=="),
    "aws signature": ("AWS4-HMAC-SHA256 SignedHeaders=host;x-amz-date, Signature=", hexes(64)),
    "password of a database": ("postgres://app:", draw(14) + "@db.example.com/x"),
    "cloudflare cookie": ("__cf_bm=", url_safe(60)),
}
"""Known by what stands before: (what stays, the secret)."""

PRIVATE_KEYS = {
    "pkcs8": _pem(),
    "rsa": _pem("RSA "),
    "encrypted": _pem("RSA ", f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,{hexes(32).upper()}\n\n"),
    "openssh": _pem("OPENSSH "),
}

NAMES = (
    "api_key", "apikey", "api-key", "apiKey", "API_KEY", "x-api-key", "openai_api_key", "azureOpenaiApiKey",
    "access_token", "accessToken", "refresh_token", "id_token", "client_secret", "clientSecret", "secret_key",
    "aws_secret_access_key", "SecretAccessKey", "SessionToken", "password", "db_password", "passwd", "authorization",
    "Ocp-Apim-Subscription-Key", "private_key_id", "connection_string",
)  # fmt: skip
"""What is called so is a secret whatever it looks like."""

VAGUE_NAMES = ("key", "token", "secret", "sig", "cookie")
"""What is called so is a secret where it looks like one."""


def signed_urls():
    """URLs that let anybody in who has them: (the URL, the secret in it)."""
    signature, token = hexes(64), draw(120, ALNUM)
    amazon = "https://bucket.s3.amazonaws.com/a.png?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20261122T100000Z"
    return {
        "s3 signature": (f"{amazon}&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}", signature),
        "s3 token": (f"{amazon}&X-Amz-Security-Token={token}&X-Amz-SignedHeaders=host", token),
        "gcs": (f"https://storage.googleapis.com/b/o?X-Goog-Algorithm=G&X-Goog-Signature={signature}", signature),
        "azure": (f"https://me.blob.core.windows.net/c/o?se=2026-11-22&sp=r&sv=2024-08-04&sig={token[:40]}%3D", token[:40]),
        "cloudfront": (f"https://d1.cloudfront.net/x?Policy=abc&Signature={token[:60]}&Key-Pair-Id=K1", token[:60]),
    }  # fmt: skip


SIGNED_URLS = signed_urls()
