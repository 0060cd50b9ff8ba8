# Sets $python to a Python that is new enough: the one of .venv if it works, else one of PATH.
for python in "$bin/../.venv/bin/python" python3 python3.13 python3.12 python3.11 python3.14 ''; do
    if [ -z "$python" ]; then
        echo "hipaamail needs Python 3.11 or newer: install it (Debian, Ubuntu: apt-get install python3)." >&2
        exit 1
    fi
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        break
    fi
done
