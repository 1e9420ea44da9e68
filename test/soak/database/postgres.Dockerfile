# PostgreSQL as Debian packages it, with one empty database and no password.
FROM debian:trixie-slim
RUN apt-get update && apt-get install -y --no-install-recommends postgresql && rm -rf /var/lib/apt/lists/*
USER postgres
ENV PATH=/usr/lib/postgresql/17/bin:$PATH PGDATA=/var/lib/postgresql/soak
RUN initdb --auth=trust && echo 'host all all all trust' >> $PGDATA/pg_hba.conf
STOPSIGNAL SIGINT
CMD ["postgres", "-c", "listen_addresses=*"]
