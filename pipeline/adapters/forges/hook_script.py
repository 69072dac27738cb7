#!/usr/bin/env python3
# greenroom post-receive hook, version 1
"""Tell Greenroom of every ref that was pushed here.

Installed by `greenroom hook install`; needs nothing but Python 3. Address and secret lie in `greenroom-hook.json`
in the repository's directory. A push never fails because of this hook: what goes wrong is printed as a warning.
Hooks in `post-receive.d` beside this file run first, in the order of their names.
"""

import hashlib
import hmac
import http.client
import json
import os
import pwd
import subprocess
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

SETTINGS = "greenroom-hook.json"
TIMEOUT_S = 5
PAUSES_S = (0.5, 1.5)
MOST_REFS = 20
ZERO = "0" * 40


def main() -> int:
    pushed = sys.stdin.read()
    repository = Path(os.environ.get("GIT_DIR", ".")).resolve()
    status = run_kept_hooks(Path(__file__).resolve().parent / "post-receive.d", pushed)
    try:
        settings = json.loads((repository / SETTINGS).read_text())
        url, secret = settings["url"], settings["secret"].encode()
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        warn(f"{SETTINGS} cannot be used ({type(error).__name__}); run `greenroom hook install` again")
        return status
    announce(settings.get("repository") or str(repository), url, secret, pushed)
    return status


def announce(repository: str, url: str, secret: bytes, pushed: str) -> None:
    lines = [line.split(" ", 2) for line in pushed.splitlines() if line.count(" ") >= 2]
    for before, pushed_id, ref in lines[:MOST_REFS]:
        after = pushed_id if pushed_id == ZERO else commit_of(pushed_id)
        body = json.dumps(
            {
                "repository": repository,
                "ref": ref,
                "before": before,
                "after": after,
                "pusher": pusher(),
                "message": "" if after == ZERO else message(after),
            }
        ).encode()
        if not deliver(url, secret, body, ref):
            return
    if len(lines) > MOST_REFS:
        warn(f"{len(lines) - MOST_REFS} more refs were not announced; start their runs with `greenroom run`")


def deliver(url: str, secret: bytes, body: bytes, ref: str) -> bool:
    """Post one delivery, with the same id for each try; False when Greenroom cannot be reached at all."""
    delivery = str(uuid.uuid4())
    for pause in (*PAUSES_S, None):
        try:
            status, answer = post(url, secret, body, delivery)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if pause is None:
                place = urlsplit(url).netloc
                warn(f"{ref} was not announced: {place} does not answer ({error}); is `greenroom up` running?")
                return False
        else:
            if pause is None or (status != 429 and status < 500):
                tell(ref, status, answer)
                return True
        time.sleep(pause)
    return False


def post(url: str, secret: bytes, body: bytes, delivery: str) -> "tuple[int, bytes]":
    stamp = str(int(time.time()))
    signature = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {
        "Content-Type": "application/json",
        "X-Greenroom-Delivery": delivery,
        "X-Greenroom-Timestamp": stamp,
        "X-Greenroom-Signature": "sha256=" + signature,
    }
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("POST", parts.path or "/", body, headers)
        response = connection.getresponse()
        return response.status, response.read(65536)
    finally:
        connection.close()


def tell(ref: str, status: int, answer: bytes) -> None:
    fields = told(answer)
    if status >= 300:
        reason = fields.get("detail") or fields.get("title") or answer[:200].decode("utf-8", "replace")
        warn(f"{ref} was refused with {status}: {reason}")
    elif fields.get("ignored"):
        say(f"no run for {ref}: {fields['ignored']}")
    elif fields.get("trigger"):
        say(f"run asked for {ref}: {fields.get('url') or fields['trigger']}")
    else:
        say(f"{ref} was announced")


def told(answer: bytes) -> "dict[str, object]":
    try:
        fields = json.loads(answer)
    except ValueError:
        return {}
    return fields if isinstance(fields, dict) else {}


def pusher() -> str:
    for name in ("GL_USERNAME", "REMOTE_USER", "GIT_COMMITTER_NAME"):
        if os.environ.get(name):
            return os.environ[name]
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def commit_of(pushed_id: str) -> str:
    """The commit that an annotated tag stands for."""
    return git("rev-parse", "--verify", "--quiet", pushed_id + "^{commit}") or pushed_id


def message(commit: str) -> str:
    return git("log", "-1", "--format=%B", commit)[:2000]


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode("utf-8", "replace").strip()


def run_kept_hooks(directory: Path, pushed: str) -> int:
    """Run the hooks that were here before; the worst of their exit statuses."""
    worst = 0
    for hook in sorted(directory.iterdir()) if directory.is_dir() else ():
        if hook.is_file() and os.access(hook, os.X_OK):
            # A hook may end without reading what was pushed; `input` copes with that.
            worst = max(worst, abs(subprocess.run([str(hook)], input=pushed.encode(), check=False).returncode))
    return worst


def warn(text: str) -> None:
    say(f"warning: {text}")


def say(text: str) -> None:
    printable = "".join(character if character.isprintable() else "?" for character in text)
    sys.stdout.write(f"greenroom: {printable}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
