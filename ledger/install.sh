#!/bin/sh
# Installs the agent that shares this machine's GPU with the platform at @URL@
#
#   curl -fsS @URL@/install.sh | sh -s -- --code gfe_enroll_…
#
# It makes a Python environment in ~/.gfe/venv, puts `gfe` into ~/.local/bin, and starts `gfe agent` with what follows `--`.
# Nothing else on the machine is changed, and nothing runs as another user. To remove it: gfe agent uninstall --purge; rm -r ~/.gfe
# GFE_PYTHON names the Python, GFE_WHEEL a wheel on this machine instead of the platform's, GFE_EXTRAS=local the embedded runtime too.
set -eu

say() { printf '%s\n' "$*" >&2; }
refuse() { say "error: $1"; say; say "hint: $2"; exit 1; }

find_python() {
    for python in ${GFE_PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then return; fi
    done
    refuse 'Python 3.11 or newer is needed' 'install it, then set GFE_PYTHON, e.g. GFE_PYTHON=/usr/bin/python3.12'
}

# All of it is read before anything is done: a download that breaks off does nothing.
main() {
    platform=@QUOTED_URL@
    wheel=@QUOTED_WHEEL@
    [ -n "${HOME:-}" ] || refuse 'HOME is not set' 'run it as the user who shares the GPU'
    venv=$HOME/.gfe/venv
    find_python
    umask 077
    mkdir -p "$HOME/.gfe"
    if ! "$venv/bin/python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        say "making $venv …"
        rm -rf "$venv"
        "$python" -m venv "$venv" >&2 || { rm -rf "$venv"; refuse "\`$python -m venv\` failed" 'on Debian and Ubuntu: sudo apt install python3-venv'; }
    fi
    extras=${GFE_EXTRAS:+"[$GFE_EXTRAS]"}
    if [ -n "${GFE_WHEEL:-}" ]; then
        [ -f "$GFE_WHEEL" ] || refuse "there is no file $GFE_WHEEL" 'GFE_WHEEL names a wheel on this machine'
        wanted=$(cd "$(dirname "$GFE_WHEEL")" && pwd)/$(basename "$GFE_WHEEL")$extras
    else
        wanted="gpu-for-everyone$extras @ $platform/dist/$wheel"
    fi
    say 'installing the agent …'
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "$wanted" >&2 ||
        refuse 'the agent cannot be installed' 'see above; the packages it needs come from where pip is set up to get them'
    mkdir -p "$HOME/.local/bin"
    ln -sf "$venv/bin/gfe" "$HOME/.local/bin/gfe"
    say "installed: $HOME/.local/bin/gfe"
    case ":${PATH:-}:" in *":$HOME/.local/bin:"*) ;; *) say "(add it to your PATH: export PATH=\"\$HOME/.local/bin:\$PATH\")" ;; esac
    if [ "$#" -eq 0 ]; then
        say
        say 'next: make a code in the console, then'
        say "  gfe agent --url $platform --code gfe_enroll_…"
        return
    fi
    exec "$venv/bin/gfe" agent --url "$platform" "$@" </dev/null
}

main "$@"
