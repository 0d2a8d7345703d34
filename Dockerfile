# The images, one target per role: ledger, ray, gateway, auditor, guard, agent; and admin for the steps that run once (secrets, migrations).
#
#   docker build --target ledger --build-arg PYTHON_DIGEST=sha256:… -t gfe-ledger .
#
# PYTHON_DIGEST pins the base image; without it a build takes what the tag means today, which is for trying things out. Python's packages are
# pinned by hashes (requirements/), the console's by its lock file. No secret is needed to build, and none is in an image: roles read files
# below /var/lib/gfe. Every role runs as a user of its own, with a read-only root and a writable /tmp.
ARG PYTHON_IMAGE=python:3.11-slim-bookworm
ARG PYTHON_DIGEST=

FROM ${PYTHON_IMAGE}${PYTHON_DIGEST:+@${PYTHON_DIGEST}} AS python
ENV LANG=C.UTF-8 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

# --- what builds: Node from a wheel, and the build backend -------------------------------------------------------------------------------
FROM python AS tools
WORKDIR /source
COPY requirements/build.txt requirements/console.txt requirements/
RUN python -m venv /tools && /tools/bin/python -m pip install --require-hashes -r requirements/build.txt -r requirements/console.txt

FROM tools AS console
COPY console console
RUN mkdir ledger && /tools/bin/python console/hatch_build.py

FROM tools AS wheel
COPY pyproject.toml README.md LICENSE ./
COPY console/hatch_build.py console/
COPY cluster cluster
COPY ledger ledger
COPY provider_join provider_join
COPY serve_app serve_app
COPY --from=console /source/ledger/static ledger/static
RUN GFE_SKIP_CONSOLE=1 /tools/bin/python -m hatchling build -t wheel -d /wheel

# --- the programs of the roles, each with what it imports and no more --------------------------------------------------------------------
# Bytecode is compiled here, and believed without a look at times that a copy changes: Ray does not start in time without it.
FROM python AS agent-programs
COPY requirements/agent.txt /requirements.txt
RUN python -m venv --without-pip /opt/gfe && python -m pip --python /opt/gfe/bin/python install --no-compile --require-hashes -r /requirements.txt
COPY --from=wheel /wheel /wheel
RUN python -m pip --python /opt/gfe/bin/python install --no-compile --no-deps --no-index /wheel/*.whl \
    && python -m compileall -q -o 0 -o 2 --invalidation-mode unchecked-hash /opt/gfe/lib # the agent itself runs with -OO

FROM python AS ledger-programs
COPY requirements/ledger.txt /requirements.txt
RUN python -m venv --without-pip /opt/gfe && python -m pip --python /opt/gfe/bin/python install --no-compile --require-hashes -r /requirements.txt
COPY --from=wheel /wheel /wheel
RUN python -m pip --python /opt/gfe/bin/python install --no-compile --no-deps --no-index /wheel/*.whl \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/gfe/lib

FROM python AS ray-programs
COPY requirements/ray.txt /requirements.txt
RUN python -m venv --without-pip /opt/gfe && python -m pip --python /opt/gfe/bin/python install --no-compile --require-hashes -r /requirements.txt
COPY --from=wheel /wheel /wheel
RUN python -m pip --python /opt/gfe/bin/python install --no-compile --no-deps --no-index /wheel/*.whl \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/gfe/lib
COPY --chmod=0755 serve_app/local/haproxy-loopback /opt/gfe/bin/haproxy-loopback

# --- the roles ---------------------------------------------------------------------------------------------------------------------------
# The users' numbers are those of `gfe up` (serve_app/local/users.py, role_secrets.py); the group `internal` may pass to the ledger's socket.
FROM python AS role
RUN groupadd --gid 60903 gfe-internal \
    && for each in ledger:60900 ray:60901 edge:60902 auditor:60904 admin:60905 guard:60908 agent:10001; do \
        groupadd --gid "${each#*:}" "gfe-${each%:*}" \
        && useradd --uid "${each#*:}" --gid "${each#*:}" --home-dir /tmp --no-create-home --shell /usr/sbin/nologin "gfe-${each%:*}" \
        || exit 1; \
    done
ENV PATH=/opt/gfe/bin:$PATH HOME=/tmp PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /

FROM role AS admin
COPY --from=ledger-programs /opt/gfe /opt/gfe
ENV GFE_SECRETS_DIR=/var/lib/gfe/admin_secrets
USER 60905:60905
HEALTHCHECK NONE
CMD ["python", "-m", "serve_app.local.database"]

FROM role AS ledger
COPY --from=ledger-programs /opt/gfe /opt/gfe
ENV GFE_SECRETS_DIR=/var/lib/gfe/secrets GFE_LEDGER_SOCKET=/run/gfe/ledger/internal.sock GFE_LEDGER_HOST=0.0.0.0 GFE_MAIL_DIR=/tmp/mail
USER 60900:60900
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 \
    CMD ["python", "-m", "serve_app.local.healthy", "http://127.0.0.1:8080/api/core/health/"]
CMD ["python", "-m", "ledger.cli", "serve"]

FROM role AS ray
COPY --from=ray-programs /opt/gfe /opt/gfe
ENV GFE_HOME=/var/lib/gfe GFE_LEDGER_SOCKET=/run/gfe/ledger/internal.sock GFE_API_HOST=0.0.0.0
USER 60901:60901
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=6s --start-period=180s --retries=6 \
    CMD ["python", "-m", "serve_app.local.healthy", "http://127.0.0.1:8000/healthz"]
CMD ["python", "-m", "serve_app.local.head"]

FROM role AS gateway
COPY --from=agent-programs /opt/gfe /opt/gfe
ENV GFE_SECRETS_DIR=/var/lib/gfe/edge_secrets GFE_LEDGER_SOCKET=/run/gfe/ledger/internal.sock GFE_EDGE_HOST=0.0.0.0 GFE_EDGE_NODE_HOST=0.0.0.0
USER 60902:60902
EXPOSE 8090 8085
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["python", "-m", "serve_app.local.healthy", "http://127.0.0.1:8085/healthz"]
CMD ["python", "-m", "serve_app.edge"]

FROM role AS auditor
COPY --from=agent-programs /opt/gfe /opt/gfe
ENV GFE_SECRETS_DIR=/var/lib/gfe/auditor_secrets GFE_LEDGER_SOCKET=/run/gfe/ledger/internal.sock GFE_AUDITOR_HOST=0.0.0.0
USER 60904:60904
EXPOSE 8094
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["python", "-m", "serve_app.local.healthy", "http://127.0.0.1:8094/healthz"]
CMD ["python", "-m", "serve_app.auditor"]

FROM role AS guard
COPY --from=agent-programs /opt/gfe /opt/gfe
ENV GFE_SECRETS_DIR=/var/lib/gfe/guard_secrets GFE_LEDGER_SOCKET=/run/gfe/ledger/internal.sock GFE_GUARD_HOST=0.0.0.0
USER 60908:60908
EXPOSE 8266
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["python", "-m", "serve_app.local.healthy", "http://127.0.0.1:8266/healthz"]
CMD ["python", "-m", "serve_app.dashboard_guard"]

# A provider's: it reaches the Ollama of its machine over the host's network; everything it keeps is in /data (docs/providers.md).
FROM role AS agent
COPY --from=agent-programs /opt/gfe /opt/gfe
RUN install -d -o 10001 -g 10001 -m 0700 /data
ENV GFE_AGENT_HOME=/data/agent XDG_CACHE_HOME=/data/cache
USER 10001:10001
VOLUME /data
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 CMD ["gfe", "agent", "status"]
ENTRYPOINT ["gfe", "agent"]
