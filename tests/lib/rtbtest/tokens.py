# SPDX-License-Identifier: MIT
"""Makes JSON Web Tokens: good ones, and those that are bad in one way each.

    token = make(sub="ann", secret=server.secret)
    for name, token in bad(server.secret).items(): ...

Standard library only. Times are the wall clock's, in seconds.
"""

import base64
import hashlib
import hmac
import json
import time

HASHES = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}


def _part(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def sign(claims, secret, header=None):
    """A JWT with these claims, signed as the header says (HS256 for an algorithm that no secret serves)."""
    header = header or {"alg": "HS256", "typ": "JWT"}
    body = _part(json.dumps(header).encode()) + b"." + _part(json.dumps(claims).encode())
    mac = hmac.new(secret.encode(), body, HASHES.get(header.get("alg"), hashlib.sha256))
    return (body + b"." + _part(mac.digest())).decode()


def make(sub=None, role="authenticated", exp_in=3600, *, secret, alg="HS256", **claims):
    """A good token. exp_in: seconds from now, may have a fraction. A claim of None is left out."""
    now = time.time()
    exp = now + exp_in
    all_claims = {"iss": "supabase", "sub": sub, "role": role, "iat": int(now),
                  "exp": int(exp) if isinstance(exp_in, int) else exp, **claims}
    return sign({k: v for k, v in all_claims.items() if v is not None}, secret, {"alg": alg, "typ": "JWT"})


def claims_of(token):
    """The claims, unchecked."""
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


# Each is bad in one way. What is not said is as make() has it.

def sb_key():
    """A publishable key: no JWT, but no error either."""
    return "sb_publishable_0123456789abcdef"


def empty():
    return ""


def garbage():
    return "garbage"


def two_parts(secret, **claims):
    return make(secret=secret, **claims).rpartition(".")[0]


def not_json(secret):
    """Three parts of base64url, but the claims are no JSON."""
    head, _, mac = make(secret=secret).split(".")
    return f"{head}.{_part(b'claims').decode()}.{mac}"


def expired(secret, ago=3600, **claims):
    return make(secret=secret, exp_in=-ago, **claims)


def alg_none(secret, **claims):
    return make(secret=secret, alg="none", **claims)


def wrong_signature(secret, **claims):
    return make(secret=secret + "-not", **claims)


def no_role(secret, **claims):
    return make(secret=secret, role=None, **claims)


def no_exp(secret, **claims):
    return make(secret=secret, exp=None, **claims)


def exp_string(secret, **claims):
    return make(secret=secret, **{"exp": "tomorrow", **claims})


def oversized(secret, size=70000, **claims):
    """Well signed, but more than `size` bytes long."""
    return make(secret=secret, **{"padding": "x" * size, **claims})


def bad(secret):
    """{name: token}: all that the server refuses, in a join and as a new token of a channel."""
    return {"empty": empty(), "garbage": garbage(), "two parts": two_parts(secret), "not json": not_json(secret),
            "expired": expired(secret), "alg none": alg_none(secret), "wrong signature": wrong_signature(secret),
            "no role": no_role(secret), "no exp": no_exp(secret), "exp a string": exp_string(secret)}
