#!/usr/bin/env bash
# Install the browser that tests/workflow/test_report.py drives: Debian's package, without what it only recommends.
# Needs root on Debian or Ubuntu; does nothing where there is a Chromium. Elsewhere those tests say why they skip.
set -euo pipefail
if command -v chromium chromium-browser google-chrome > /dev/null; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get > /dev/null; then
    echo "no Chromium, and this is not root on Debian: the browser tests will be skipped" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet --quiet
apt-get install --quiet --quiet --yes --no-install-recommends chromium fonts-liberation > /dev/null
