# Sourced by ./dev and ./check: brings what a fresh Debian lacks. Says what it installs, and fails by name when it cannot.

say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }
fail() { printf 'error: %s\n' "$*" >&2; exit 1; }

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null 2>&1; then sudo "$@"
  else fail "this needs root to install Debian packages, and there is no sudo: run as root '$*'"
  fi
}

# need COMMAND-OR-PATH PACKAGE...: installs the packages unless the command or file is there.
need() {
  local what=$1; shift
  if command -v "$what" >/dev/null 2>&1 || compgen -G "$what" >/dev/null; then return 0; fi
  command -v apt-get >/dev/null 2>&1 || fail "$what is missing, and this is no Debian: install it (Debian calls the packages: $*)"
  say "installing $* (for $what)"
  if [ -z "${APT_UPDATED:-}" ]; then as_root apt-get update -qq; APT_UPDATED=1; fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
  command -v "$what" >/dev/null 2>&1 || compgen -G "$what" >/dev/null || fail "$what is still missing after installing $*"
}

need_rust() {
  command -v cargo >/dev/null 2>&1 || fail "cargo is missing: install a Rust toolchain (1.95 or newer) first"
  need cc gcc libc6-dev
  need make make
}
